"""In what time is estimated: as it passes, or as the processor spends it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Clock:
    """Seconds, and how many of them this process has taken so far."""

    now: Callable[[], float]
    started: Callable[[], float]


WALL = Clock(time.perf_counter, lambda: time.time() - float(psutil.Process().create_time()))
PROCESSOR = Clock(time.process_time, time.process_time)
"""Of all threads of this process: what a busy machine gives to others does not count."""
