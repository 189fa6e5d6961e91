"""Build engines from graphs."""
