"""Labelled examples: rows, labels, tokenisation."""
