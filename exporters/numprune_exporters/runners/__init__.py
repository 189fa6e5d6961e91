"""Runners: input checks, and how a graph is called step by step."""
