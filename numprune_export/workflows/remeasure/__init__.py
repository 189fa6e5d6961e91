"""Remeasure a finished run, or compare models and artifacts."""
