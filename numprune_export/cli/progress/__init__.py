"""Output of a run: console, event lines, interrupts."""
