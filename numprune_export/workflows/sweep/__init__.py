"""Many runs of one recipe; shared results are computed once."""
