"""Texts and labelled examples: sources, windows, tasks."""
