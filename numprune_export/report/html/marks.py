"""Draw many equal marks as one SVG path, to keep the page small."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from numprune_export.report.tables.format import number

Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""


def boxes(axes: Axes, rectangles: Iterable[Box], **look: Any) -> None:
    """Draw rectangles."""
    points, codes = [], []
    for left, low, right, high in rectangles:
        points += [(left, low), (right, low), (right, high), (left, high), (left, low)]
        codes += [Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY]
    _add(axes, points, codes, look)


def ticks(axes: Axes, strokes: Iterable[tuple[float, float, float]], **look: Any) -> None:
    """Draw vertical strokes, given as (x, y from, y to)."""
    lines = [((x, low), (x, high)) for x, low, high in strokes]
    points = [point for line in lines for point in line]
    _add(axes, points, [Path.MOVETO, Path.LINETO] * len(lines), {"fill": False, **look})


def bars(axes: Axes, strokes: Iterable[tuple[float, float, float]], **look: Any) -> None:
    """Draw horizontal strokes, given as (x from, x to, y)."""
    lines = [((left, y), (right, y)) for left, right, y in strokes]
    points = [point for line in lines for point in line]
    _add(axes, points, [Path.MOVETO, Path.LINETO] * len(lines), {"fill": False, **look})


def _add(axes: Axes, points: list[tuple[float, float]], codes: list[Any], look: Any) -> None:
    if points:
        axes.add_patch(PathPatch(Path(points, codes), **look))


_DECADES = 1.5
"""If the range spans fewer decades, 2 and 5 times the powers of ten are labelled too."""


def logarithmic(axes: Axes, low: float, high: float) -> None:
    """Make the x axis logarithmic, for values from `low` to `high`, both > 0."""
    axes.set_xscale("log")
    subs = (1.0,) if high / low > 10**_DECADES else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.xaxis.set_minor_locator(NullLocator())


def tick(value: float) -> str:
    """The label of a tick.

    >>> tick(0.0001), tick(20.0), tick(2e7)
    ('1e-4', '20', '2e7')
    """
    if 1e-3 <= value < 1e5:
        return number(value)
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}"
