"""Peak memory of a model or an artifact on the host and on the GPU."""
