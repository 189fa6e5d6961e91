"""The `onnx-cuda` target: ONNX Runtime on an NVIDIA GPU."""
