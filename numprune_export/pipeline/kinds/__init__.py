"""Kinds of models: causal language models, and encoders with a task head."""
