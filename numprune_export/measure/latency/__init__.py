"""Latency of runners, interleaved, with confidence intervals."""
