"""The lower convex hull of points in a plane."""

from __future__ import annotations

from collections.abc import Sequence


def lower_hull(x: Sequence[float], y: Sequence[float]) -> list[int]:
    """Indices of the points on the lower convex hull, from left to right (monotone chain, Andrew
    1979).

    Points on an edge of the hull are included, so a walk along the hull may stop at each.

    Args:
        x: Strictly rising.
        y: As many values as `x`.

    >>> lower_hull([0, 1, 2, 3, 4], [0, 3, 2, 3, 6])
    [0, 2, 3, 4]
    """
    hull: list[int] = []
    for new in range(len(x)):
        while len(hull) > 1 and _above(hull[-1], hull[-2], new, x, y):
            hull.pop()
        hull.append(new)
    return hull


def _above(point: int, left: int, right: int, x: Sequence[float], y: Sequence[float]) -> bool:
    """Whether a point lies above the line through `left` and `right`."""
    rise = (y[right] - y[left]) * (x[point] - x[left])
    return (y[point] - y[left]) * (x[right] - x[left]) > rise
