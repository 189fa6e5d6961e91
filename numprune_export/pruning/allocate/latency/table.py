"""Milliseconds of a sublayer by its width, measured on what the model will run on.

What is timed are whole models of a few equal blocks with one kind of sublayer, at one width; the same
model without sublayers is taken off. Between any two of them an anchor is timed, two blocks of full
width, and every time counts as a multiple of the anchors before and after it: a machine that others
slow down for a while then slows both sides of a ratio.
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
"""(heads, neurons) of every block of a model; the shape that a time depends on."""

Timer = Callable[[Blocks], float]
"""A model of these blocks, embeddings and task head included, to milliseconds of one run."""

COPIES = 2
"""Blocks in a model of one kind of sublayer, and in the anchor."""


@dataclass(frozen=True)
class LatencyTable:
    """Kwon et al. 2022 (arXiv:2204.09656, §4.1) call it LAT: one column per kind of sublayer."""

    milliseconds: Mapping[Kind, Mapping[int, float]]
    """By kind, by number of units, rising; no sublayer takes no time."""
    dense_ms: float
    """The whole dense model."""
    empty_ms: float
    """The same without a unit in any sublayer: embeddings, norms, biases, head."""

    def at(self, dense_ms: float) -> LatencyTable:
        """The table as it is where the dense model takes this long."""
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
        """The table that `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is none.
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
    """Time every model once per round, the anchor between them, and take medians over the rounds.

    Args:
        timer: Does the timing.
        dense: The shape of the dense model.
        widths: By kind, which numbers of units to time; the full width belongs to them.
        rounds: Runs of each.

    Raises:
        NumericalError: a time is not a positive number, or units take none.
    """
    rows = {
        (kind, width): _alone(kind, width) for kind, column in widths.items() for width in column
    }
    frame, empty = ((0, 0),) * COPIES, ((0, 0),) * len(dense)
    ratios, anchor_ms = _ratios(
        timer, _anchor(dense), [*rows.values(), frame, empty, dense], rounds
    )
    found = {blocks: median(values) * anchor_ms for blocks, values in ratios.items()}
    columns: dict[Kind, dict[int, float]] = {
        kind: {
            # Wider may be measured as faster than nothing at all; that is still not no time.
            width: max(found[rows[kind, width]] - found[frame], 1e-3 * found[frame]) / COPIES
            for width in sorted(set(column))
        }
        for kind, column in widths.items()
    }
    if found[dense] <= found[empty]:
        raise NumericalError(
            f"the dense model takes `{found[dense]:.4g}` ms, and `{found[empty]:.4g}` ms without any"
            " head or neuron",
            hint="give a longer `length` or a larger `batch`, or more `rounds`",
        )
    return LatencyTable(columns, found[dense], found[empty])


def alone(timer: Timer, dense: Blocks, *, rounds: int = 5) -> float:
    """Milliseconds of the dense model as `measure` times it, the anchor before every run."""
    times = []
    for _ in range(rounds):
        _time(timer, _anchor(dense))
        times.append(_time(timer, dense))
    return median(times)


def checked(value: float, what: str) -> float:
    """The value itself.

    Raises:
        NumericalError: it is no time.
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
    """By model, its time over the mean of the anchors around it, round by round; the anchor's median."""
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
