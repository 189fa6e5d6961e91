"""The regression gate: checks a report against limits and against a baseline."""
