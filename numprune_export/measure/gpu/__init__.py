"""Which GPU this is, and whether it is fit for timing."""
