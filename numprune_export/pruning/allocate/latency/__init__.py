"""Allocation under a latency budget: table, curve, search."""
