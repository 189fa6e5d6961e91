"""Workloads and timings: a workload gives one timing per phase or input shape."""

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
    """The contenders of one phase or shape, and the interpretation of their samples."""

    contenders: Mapping[str, Contender]
    tokens: int
    """Tokens processed per sample."""
    conditions: Mapping[str, Any]
    scaled: Callable[[Samples], Samples] = _as_taken
    """Converts samples for the report, for example to times per token."""
    ideal: float | None = None
    """Ideal speed-up of the pruned model; None: unknown."""
    work: int = 1
    """Steps of progress per round, relative to the other timings of the workload."""


class Workload(Protocol[R_contra]):
    """Work that open models are timed on."""

    def timings(self, runners: Mapping[str, R_contra]) -> Mapping[str, Timing]:
        """Timings of open models, by the name used in metrics, such as `decode`."""
        ...


def discard(_: object) -> None:
    """Drop a result, so that a call returns None."""
