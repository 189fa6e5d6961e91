"""The lower convex hull of points in a plane."""

from __future__ import annotations

from collections.abc import Sequence


def lower_hull(x: Sequence[float], y: Sequence[float]) -> list[int]:
    """Points that no line between two others runs below, from left to right, as indices.

    Points on such a line stay, so that whoever follows the hull may stop at each (monotone chain,
    Andrew 1979).

    Args:
        x: Rising, no two equal.
        y: As many.

    >>> lower_hull([0, 1, 2, 3, 4], [0, 3, 2, 3, 6])
    [0, 2, 3, 4]
    """
    hull: list[int] = []
    for new in range(len(x)):
        while len(hull) > 1 and _above(hull[-1], hull[-2], new, x, y):
            hull.pop()
        hull.append(new)
    return hull


def _above(one: int, left: int, right: int, x: Sequence[float], y: Sequence[float]) -> bool:
    """Whether a point lies above the line between two others."""
    rise = (y[right] - y[left]) * (x[one] - x[left])
    return (y[one] - y[left]) * (x[right] - x[left]) > rise
