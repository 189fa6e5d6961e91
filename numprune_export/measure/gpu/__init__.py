"""State of the GPU, and whether timings on it can be trusted."""
