"""Whether an exported model computes what PyTorch computes."""
