"""PyTorch runners: the reference of parity and latency."""
