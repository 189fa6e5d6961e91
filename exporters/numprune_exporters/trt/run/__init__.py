"""From an engine file to a runner on the GPU."""
