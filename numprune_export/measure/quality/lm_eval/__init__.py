"""lm-eval tasks on any DecoderRunner: PyTorch or an exported model."""
