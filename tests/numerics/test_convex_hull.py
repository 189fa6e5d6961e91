"""The lower hull of points."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from numprune_export.numerics.convex_hull import lower_hull


@settings(max_examples=50)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=12))
def test_no_line_between_points_runs_below_the_hull(y):
    x = range(len(y))
    hull = lower_hull(x, y)
    assert hull[0] == 0
    assert hull[-1] == len(y) - 1
    for left, right in itertools.pairwise(hull):
        for point in range(len(y)):
            line = y[left] + (y[right] - y[left]) * (point - left) / (right - left)
            assert y[point] >= line - 1e-9 * 10 * len(y)
