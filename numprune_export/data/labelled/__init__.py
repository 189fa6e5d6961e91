"""Labelled examples: rows, labels, tokenization."""
