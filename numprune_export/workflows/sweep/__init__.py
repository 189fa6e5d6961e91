"""Many runs of one recipe, and what is the same for all of them made once."""
