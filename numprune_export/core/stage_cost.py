"""What computing a stage takes: wall and processor seconds, peak memory, and batches that were halved."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from numprune_export.core.halving import watched
from numprune_export.core.host_memory import own_bytes

EVERY_S = 0.1
"""Seconds between two readings of this process's memory."""


@dataclass(frozen=True)
class StageCost:
    """The cost of computing a stage, in the run that computed it."""

    processor_seconds: float
    """Of all threads, and of the processes that were started and have ended."""
    host_peak_bytes: int
    """Of memory that belongs to this process alone, where the system tells; else resident."""
    device_peak_bytes: int | None = None
    """Of PyTorch's tensors on a GPU; None: it used none."""
    halved: Mapping[str, int] = field(default_factory=dict)
    """Texts in a `batch`, or `tokens` summed at once, where the device had no memory for more."""

    def notices(self, stage: str) -> list[str]:
        """A sentence for each kind of work that was halved."""
        return [
            f"{rows} halved to {count} in stage `{stage}`: the device was full"
            for rows, count in self.halved.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """As stored in stage.json."""
        return asdict(self) | {"halved": dict(self.halved)}

    @classmethod
    def from_json(cls, content: Any) -> StageCost | None:
        """None if it is missing, as in folders of earlier versions, or not in this format."""
        match content:
            case {
                "processor_seconds": int() | float() as seconds,
                "host_peak_bytes": int(host),
                "device_peak_bytes": int() | None as device,
                "halved": dict(halved),
            } if all(isinstance(count, int) for count in halved.values()):
                return cls(float(seconds), host, device, halved)
        return None


@dataclass
class Meter:
    """Filled at the end of `metered`."""

    seconds: float = 0.0
    cost: StageCost | None = None


@contextmanager
def metered() -> Iterator[Meter]:
    """Context manager: measure the body, with batches halved as `in_parts` does."""
    meter = Meter()
    start, processor = time.perf_counter(), _processor_seconds()
    restart_device_peak()
    with watched() as halved, _peak_of(own_bytes) as peak:
        yield meter
    meter.seconds = time.perf_counter() - start
    used = max(0.0, _processor_seconds() - processor)
    meter.cost = StageCost(
        used, peak[0], device_peak_bytes(), {str(rows): count for rows, count in halved.items()}
    )


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@contextmanager
def _peak_of(read: Callable[[], int], *, every_s: float = EVERY_S) -> Iterator[list[int]]:
    """The largest of regular readings, in a list of one: at the start, from a thread, at the end."""
    peak, finished = [read()], threading.Event()

    def look() -> None:
        while not finished.wait(every_s):
            peak[0] = max(peak[0], read())

    thread = threading.Thread(target=look, name="memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        peak[0] = max(peak[0], read())
        finished.set()
        thread.join()


def device_peak_bytes() -> int | None:
    """Peak bytes of PyTorch's tensors on the fullest GPU; None if no GPU is in use."""
    cuda = _cuda()
    if cuda is None:
        return None
    return max(int(cuda.max_memory_allocated(index)) for index in range(cuda.device_count()))


def restart_device_peak() -> None:
    """Let the peak begin at what is allocated now."""
    cuda = _cuda()
    for index in range(0 if cuda is None else cuda.device_count()):
        cuda.reset_peak_memory_stats(index)


def _cuda() -> Any:
    """`torch.cuda` if this process uses it."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
