"""What a model is worth and whether its export is the same model: perplexity and parity."""
