"""Graphs of decoders with a growing KV cache."""
