"""Commands beyond one run: sweep, remeasure, estimate."""
