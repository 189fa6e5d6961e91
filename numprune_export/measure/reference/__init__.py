"""PyTorch runners: the reference for parity and the baseline for latency."""
