"""The `onnx` target: ONNX Runtime on the CPU."""
