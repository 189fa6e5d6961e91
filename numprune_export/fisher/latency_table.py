"""Milliseconds of a sublayer by its width, measured on what the model will run on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from numprune_export.errors import NumericalError
from numprune_export.plan import Kind

Timer = Callable[[Kind, int], float]
"""(kind of sublayer, units in it, at least one) to milliseconds of one run, norm and residual
included."""


@dataclass(frozen=True)
class LatencyTable:
    """Kwon et al. 2022 (arXiv:2204.09656, §4.1) call it LAT: one column per kind of sublayer."""

    milliseconds: Mapping[Kind, Mapping[int, float]]
    """By kind, by number of units, rising; no sublayer takes no time."""

    def to_json(self) -> dict[str, Any]:
        return {
            kind: {str(width): value for width, value in column.items()}
            for kind, column in self.milliseconds.items()
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> LatencyTable:
        kinds: tuple[Kind, ...] = ("attention", "mlp")
        return cls(
            {
                kind: {int(width): float(value) for width, value in content[kind].items()}
                for kind in kinds
                if kind in content
            }
        )


def measure(timer: Timer, widths: Mapping[Kind, Sequence[int]], *, rounds: int = 5) -> LatencyTable:
    """Time every width once per round and take each one's median over the rounds.

    A disturbance of the machine then falls on many widths of one round, not on all runs of one
    width.

    Args:
        timer: Does the timing.
        widths: By kind, which numbers of units to time; the full width belongs to them.
        rounds: Runs of each.

    Raises:
        NumericalError: a time is not a positive number.
    """
    samples: dict[tuple[Kind, int], list[float]] = {}
    for _ in range(rounds):
        for kind, column in widths.items():
            for width in sorted(set(column)):
                samples.setdefault((kind, width), []).append(
                    _checked(timer(kind, width), kind, width)
                )
    return LatencyTable(
        {
            kind: {width: median(samples[kind, width]) for width in sorted(set(column))}
            for kind, column in widths.items()
        }
    )


def _checked(value: float, kind: Kind, width: int) -> float:
    if not (math.isfinite(value) and value > 0):
        raise NumericalError(
            f"the measured latency of {kind} with {width} units is `{value}` ms",
            hint="measure again with more runs, or check the runtime's clock",
        )
    return value
