"""Tasks of lm-eval, asked of any DecoderRunner: PyTorch's and an exported model's alike."""
