"""Parameters, multiply-accumulates and bytes, from shapes alone."""
