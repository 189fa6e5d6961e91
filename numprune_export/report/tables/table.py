"""What measurements are told as, before any markup: rows of text, and notes about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
