"""What is timed: a workload makes timings of open models, one for each phase or shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from numprune_export.measure.latency.interleave import Contender, Samples

R_contra = TypeVar("R_contra", contravariant=True)


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
    ideal: float | None = None
    """The speed-up of a pruned model that the removed work allows; None: not known."""


class Workload(Protocol[R_contra]):
    """What open models are given to do."""

    def timings(self, runners: Mapping[str, R_contra]) -> Mapping[str, Timing]:
        """By what the names of metrics say, such as `decode`, of any number of open models."""
        ...


def discard(_: object) -> None:
    """For an answer that nobody reads."""
