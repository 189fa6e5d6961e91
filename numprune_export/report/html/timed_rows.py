"""What was timed on a target, as the rows of a plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from numprune_export.report.html.cards import shape
from numprune_export.report.tables.table import Measurements
from numprune_export.report.verdict import is_reference, timed


@dataclass(frozen=True)
class TimedRow:
    """One phase or shape on one target."""

    phase: str
    name: str
    """What its metrics begin with."""

    def value(self, metrics: Measurements, key: str) -> float | None:
        one = metrics.get(f"{self.name}.{key}")
        return one.value if one is not None and math.isfinite(one.value) else None


def timed_rows(metrics: Measurements, target: str) -> list[TimedRow]:
    return [TimedRow(shape(phase), name) for phase, one, name in timed(metrics) if one == target]


def told(target: str) -> str:
    """A target as a title names it."""
    if target == "torch":
        return "PyTorch"
    return f"PyTorch ({target})" if is_reference(target) else target


def shapes_told(rows: Sequence[TimedRow]) -> str:
    """What the labels of rows mean, where it must be said."""
    return " Rows: batch × tokens." if any("×" in one.phase for one in rows) else ""


def label_rows(axes: Axes, rows: Sequence[TimedRow]) -> None:
    """A row of a plot for each, the first on top."""
    axes.set_yticks(range(len(rows)), [one.phase for one in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)


def identifier(text: str) -> str:
    """As a part of an id."""
    return "".join(one if one.isalnum() else "-" for one in text)
