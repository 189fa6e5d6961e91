"""Model families, prunable sites, block-wise execution and checkpoints."""
