"""One thing that is timed of all models: a phase, or a shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numprune_export.measure.latency.interleave import Contender, Samples, rounds_of


class Repeated:
    """A workload that is timed in rounds, which sessions share."""

    warmup: int
    samples: int
    sessions: int

    @property
    def rounds(self) -> int:
        """Of each timing, warm-up included."""
        return self.sessions * (self.warmup + rounds_of(self.samples, self.sessions))


def _as_taken(samples: Samples) -> Samples:
    return samples


@dataclass(frozen=True)
class Timing:
    """The models as contenders, and what their samples are for."""

    contenders: Mapping[str, Contender]
    tokens: int
    """That one sample's time is for."""
    conditions: Mapping[str, Any]
    scaled: Callable[[Samples], Samples] = _as_taken
    """Samples as they are reported, such as times per token."""
    work: int = 1
    """Steps of progress that a round counts, beside those of other timings."""


def discard(_: object) -> None:
    """For an answer that nobody reads."""
