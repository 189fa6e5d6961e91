"""How a run is shown: console, event lines, interrupts."""
