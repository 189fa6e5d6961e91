"""Allocation under a latency limit: table, curve, search."""
