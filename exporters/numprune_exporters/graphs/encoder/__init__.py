"""Graphs of encoders with a task head."""
