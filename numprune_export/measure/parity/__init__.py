"""Parity between an exported model and PyTorch."""
