"""The CUDA runtime, through NVIDIA's own Python bindings: device, memory, stream. No torch."""
