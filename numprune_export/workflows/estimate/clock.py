"""Clocks of an estimate: wall time or CPU time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Clock:
    """Present time, and time since this process started; both in seconds."""

    now: Callable[[], float]
    started: Callable[[], float]


WALL = Clock(time.perf_counter, lambda: time.time() - float(psutil.Process().create_time()))
PROCESSOR = Clock(time.process_time, time.process_time)
"""CPU time of all threads of this process, independent of other load on the machine."""
