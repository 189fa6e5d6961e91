"""Allocation: how many units each site keeps, and which. One file per method."""
