"""Scores of a task's predictions, and bootstrap intervals."""
