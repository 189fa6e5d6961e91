"""Prune Transformers without training, shrink them, export them, prove the speed-up."""
