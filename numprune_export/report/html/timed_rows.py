"""Rows of the speed plots: the timed phases of a target."""

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
    """Prefix of its metrics."""

    def value(self, metrics: Measurements, key: str) -> float | None:
        metric = metrics.get(f"{self.name}.{key}")
        return metric.value if metric is not None and math.isfinite(metric.value) else None


def timed_rows(metrics: Measurements, target: str) -> list[TimedRow]:
    return [
        TimedRow(shape(phase), name)
        for phase, timed_target, name in timed(metrics)
        if timed_target == target
    ]


def target_title(target: str) -> str:
    """The display name of a target."""
    if target == "torch":
        return "PyTorch"
    return f"PyTorch ({target})" if is_reference(target) else target


def shape_note(rows: Sequence[TimedRow]) -> str:
    """An explanation of the row labels, if they are shapes; else empty."""
    return " Rows: batch × tokens." if any("×" in row.phase for row in rows) else ""


def label_rows(axes: Axes, rows: Sequence[TimedRow]) -> None:
    """Label the rows of a plot, the first on top."""
    axes.set_yticks(range(len(rows)), [row.phase for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)


def identifier(text: str) -> str:
    """`text` as part of an id."""
    return "".join(letter if letter.isalnum() else "-" for letter in text)
