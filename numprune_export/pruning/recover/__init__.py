"""Recovery of a pruned model: training towards the dense model's outputs, after the compensation."""
