"""Tensors in, tensors out: the linear algebra that the methods share. Knows no model and no file."""
