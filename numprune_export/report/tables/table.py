"""Tables of formatted measurements with notes, and their Markdown rendering."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from numprune_export.report.schema import Measurement
from numprune_export.report.tables.format import measured

Measurements = Mapping[str, Measurement]

ABSENT = "-"


@dataclass(frozen=True)
class Tabular:
    """A table of formatted text; the first column names the rows, the others hold numbers."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    points: tuple[str, ...] = ()
    """Notes on single rows."""
    note: str = ""
    """A note on the whole table."""

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.header) for row in self.rows), self


def interval(metric: Measurement, form: Callable[[float], str]) -> str:
    if metric.low is None or metric.high is None:
        return ABSENT
    return f"{form(metric.low)} to {form(metric.high)}"


def reading(metrics: Measurements, name: str, form: Callable[[float], str] | None = None) -> str:
    """A metric formatted in its unit, or by `form`; `ABSENT` if it was not measured."""
    metric = metrics.get(name)
    if metric is None:
        return ABSENT
    return measured(metric.value, metric.unit) if form is None else form(metric.value)


def ratio(part: float, whole: float) -> float:
    """`part / whole`; NaN if `whole` is 0.

    >>> ratio(3.0, 4.0), ratio(1.0, 0.0)
    (0.75, nan)
    """
    return part / whole if whole else float("nan")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column left-aligned, the others right-aligned."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_line(row, widths) for row in (cells[0], rule, *cells[1:]))


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first = row[0].ljust(widths[0])
    rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
    return f"| {' | '.join((first, *rest))} |"
