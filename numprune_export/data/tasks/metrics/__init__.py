"""Scores of a task's predictions, and their intervals."""
