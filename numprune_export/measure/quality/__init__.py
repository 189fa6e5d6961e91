"""Quality metrics on text: perplexity, divergence from the dense model, lm-eval tasks."""
