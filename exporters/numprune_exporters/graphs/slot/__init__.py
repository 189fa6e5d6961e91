"""Graphs of decoders with a fixed-capacity KV cache."""
