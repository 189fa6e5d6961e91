"""What a command does beyond one run: sweep, remeasure, estimate."""
