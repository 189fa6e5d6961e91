"""Latency table: milliseconds of a sublayer by its width, measured on the target's runtime.

The timed models have a few equal blocks with one kind of sublayer at one width; the time of the
same model without sublayers is subtracted. Each run is bracketed by runs of an anchor, two blocks
of full width, and its time is divided by the mean of these two: temporary load of the machine then
affects both sides of the ratio.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from numprune_export.core.errors import NumericalError
from numprune_export.models.site import Kind

Blocks = tuple[tuple[int, int], ...]
"""(heads, neurons) of every block of a model: the shape that its latency depends on."""

Timer = Callable[[Blocks], float]
"""Milliseconds of one run of a model with these blocks, embeddings and task head included."""

COPIES = 2
"""Blocks of a timed model with one kind of sublayer, and of the anchor."""


@dataclass(frozen=True)
class LatencyTable:
    """LAT of Kwon et al. 2022 (arXiv:2204.09656, §4.1): one column per kind of sublayer."""

    milliseconds: Mapping[Kind, Mapping[int, float]]
    """By kind and rising number of units, all positive."""
    dense_ms: float
    """Latency of the dense model."""
    empty_ms: float
    """Latency of the same model without any unit: embeddings, norms, biases, head."""

    def at(self, dense_ms: float) -> LatencyTable:
        """The table scaled to this latency of the dense model."""
        factor = dense_ms / self.dense_ms
        columns = {
            kind: {width: factor * value for width, value in column.items()}
            for kind, column in self.milliseconds.items()
        }
        return LatencyTable(columns, dense_ms, factor * self.empty_ms)

    def to_json(self) -> dict[str, Any]:
        columns = {
            kind: {str(width): value for width, value in column.items()}
            for kind, column in self.milliseconds.items()
        }
        return {"milliseconds": columns, "dense_ms": self.dense_ms, "empty_ms": self.empty_ms}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> LatencyTable:
        """Read the result of `to_json`.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: the content is not a table.
            NumericalError: a time is not a positive number.
        """
        kinds: tuple[Kind, ...] = ("attention", "mlp")
        columns = {
            kind: {
                int(width): checked(float(value), f"{kind} with {width} units")
                for width, value in content["milliseconds"][kind].items()
            }
            for kind in kinds
            if kind in content["milliseconds"]
        }
        whole = [checked(float(content[name]), name) for name in ("dense_ms", "empty_ms")]
        return cls(columns, *whole)


def measure(
    timer: Timer, dense: Blocks, widths: Mapping[Kind, Sequence[int]], *, rounds: int = 5
) -> LatencyTable:
    """Time every model once per round, with the anchor in between, and take medians over the
    rounds.

    Args:
        timer: Times one run of a model.
        dense: The shape of the dense model.
        widths: By kind, the numbers of units to time; they include the full width.
        rounds: Runs of each model.

    Raises:
        NumericalError: a time is not a positive number, or the units add no time.
    """
    rows = {
        (kind, width): _alone(kind, width) for kind, column in widths.items() for width in column
    }
    frame, empty = ((0, 0),) * COPIES, ((0, 0),) * len(dense)
    ratios, anchor_ms = _ratios(
        timer, _anchor(dense), [*rows.values(), frame, empty, dense], rounds
    )
    times = {blocks: median(values) * anchor_ms for blocks, values in ratios.items()}
    columns: dict[Kind, dict[int, float]] = {
        kind: {
            # By noise a width may be measured as faster than no units; its time is still positive.
            width: max(times[rows[kind, width]] - times[frame], 1e-3 * times[frame]) / COPIES
            for width in sorted(set(column))
        }
        for kind, column in widths.items()
    }
    if times[dense] <= times[empty]:
        raise NumericalError(
            f"the dense model takes `{times[dense]:.4g}` ms, and `{times[empty]:.4g}` ms without"
            " heads and neurons",
            hint="give a longer `length` or a larger `batch`, or more `rounds`",
        )
    return LatencyTable(columns, times[dense], times[empty])


def alone(timer: Timer, dense: Blocks, *, rounds: int = 5) -> float:
    """Milliseconds of the dense model, timed as in `measure`, with the anchor before every run."""
    times = []
    for _ in range(rounds):
        _time(timer, _anchor(dense))
        times.append(_time(timer, dense))
    return median(times)


def checked(value: float, what: str) -> float:
    """The value, if it is a valid time.

    Raises:
        NumericalError: the value is not finite or not positive.
    """
    if not (math.isfinite(value) and value > 0):
        raise NumericalError(
            f"the measured latency of {what} is `{value}` ms",
            hint="measure again with more runs, or check the runtime's clock",
        )
    return value


def _ratios(
    timer: Timer, anchor: Blocks, models: Sequence[Blocks], rounds: int
) -> tuple[dict[Blocks, list[float]], float]:
    """By model, its time relative to the mean of the anchors around it, per round; and the anchor's
    median."""
    models = list(dict.fromkeys(models))
    ratios: dict[Blocks, list[float]] = {blocks: [] for blocks in models}
    anchors = [_time(timer, anchor)]
    for number in range(rounds):
        for blocks in models[::-1] if number % 2 else models:
            taken = _time(timer, blocks)
            anchors.append(_time(timer, anchor))
            ratios[blocks].append(2 * taken / (anchors[-2] + anchors[-1]))
    return ratios, median(anchors)


def _time(timer: Timer, blocks: Blocks) -> float:
    return checked(timer(blocks), f"blocks of {' '.join(f'{h}+{n}' for h, n in blocks)} units")


def _anchor(dense: Blocks) -> Blocks:
    heads, neurons = (max(column) for column in zip(*dense, strict=True))
    return ((heads, neurons),) * COPIES


def _alone(kind: Kind, width: int) -> Blocks:
    return ((width, 0) if kind == "attention" else (0, width),) * COPIES
