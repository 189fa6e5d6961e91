"""Open an engine file and run it on the GPU."""
