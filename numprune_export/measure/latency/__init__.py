"""Interleaved latency measurements of runners, with confidence intervals."""
