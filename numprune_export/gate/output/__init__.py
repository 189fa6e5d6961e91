"""Verdicts of the gate, in the formats that people and CI systems read."""
