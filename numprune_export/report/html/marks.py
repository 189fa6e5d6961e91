"""Marks of a kind as one path: a plot of a thousand of them stays small."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path

Box = tuple[float, float, float, float]
"""Left, low, right, high."""


def boxes(axes: Axes, found: Iterable[Box], **look: Any) -> None:
    """Rectangles."""
    points, codes = [], []
    for left, low, right, high in found:
        points += [(left, low), (right, low), (right, high), (left, high), (left, low)]
        codes += [Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY]
    _add(axes, points, codes, look)


def ticks(axes: Axes, found: Iterable[tuple[float, float, float]], **look: Any) -> None:
    """Upright strokes at x, from one y to another."""
    lines = [((x, low), (x, high)) for x, low, high in found]
    points = [point for line in lines for point in line]
    _add(axes, points, [Path.MOVETO, Path.LINETO] * len(lines), {"fill": False, **look})


def bars(axes: Axes, found: Iterable[tuple[float, float, float]], **look: Any) -> None:
    """Level strokes from one x to another, at y."""
    lines = [((left, y), (right, y)) for left, right, y in found]
    points = [point for line in lines for point in line]
    _add(axes, points, [Path.MOVETO, Path.LINETO] * len(lines), {"fill": False, **look})


def _add(axes: Axes, points: list[tuple[float, float]], codes: list[Any], look: Any) -> None:
    if points:
        axes.add_patch(PathPatch(Path(points, codes), **look))
