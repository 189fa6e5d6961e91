"""The CUDA runtime through NVIDIA's Python bindings: device, memory, streams. Needs no torch."""
