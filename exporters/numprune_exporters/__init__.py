"""Targets for numprune-export: each file makes artifacts for one runtime and runs them."""
