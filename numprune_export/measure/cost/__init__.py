"""Parameter, multiply-accumulate and byte counts, computed from shapes."""
