"""What measurements are told as, before any markup: rows of text, and notes about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from numprune_export.report.schema import Measurement
from numprune_export.report.tables.format import measured

Measurements = Mapping[str, Measurement]

ABSENT = "-"


@dataclass(frozen=True)
class Tabular:
    """A table; its first column names the rows, the others hold numbers."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    points: tuple[str, ...] = ()
    """What holds for one row or another."""
    note: str = ""
    """What holds for all."""

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.header) for row in self.rows), self


def interval(one: Measurement, form: Callable[[float], str]) -> str:
    if one.low is None or one.high is None:
        return ABSENT
    return f"{form(one.low)} to {form(one.high)}"


def reading(metrics: Measurements, name: str, form: Callable[[float], str] | None = None) -> str:
    """A metric in its own unit, or by `form`; absent where it was not measured."""
    one = metrics.get(name)
    if one is None:
        return ABSENT
    return measured(one.value, one.unit) if form is None else form(one.value)


def ratio(part: float, whole: float) -> float:
    """NaN where there is nothing to divide by.

    >>> ratio(3.0, 4.0), ratio(1.0, 0.0)
    (0.75, nan)
    """
    return part / whole if whole else float("nan")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with aligned columns: the first to the left, the rest to the right."""
    cells = [[one.replace("|", "\\|") for one in row] for row in (header, *rows)]
    wide = [max(3, *(len(row[column]) for row in cells)) for column in range(len(header))]
    rule = ["-" * wide[0], *("-" * (one - 1) + ":" for one in wide[1:])]
    return "\n".join(_line(row, wide) for row in (cells[0], rule, *cells[1:]))


def _line(row: Sequence[str], wide: Sequence[int]) -> str:
    first = row[0].ljust(wide[0])
    rest = (cell.rjust(width) for cell, width in zip(row[1:], wide[1:], strict=True))
    return f"| {' | '.join((first, *rest))} |"
