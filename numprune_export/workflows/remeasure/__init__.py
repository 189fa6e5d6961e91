"""Measuring again: a finished run, or any models and artifacts side by side."""
