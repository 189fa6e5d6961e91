"""ONNX graphs of decoders and encoders, written node by node."""
