"""Nested orders of removal, and what plain scores say as one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from numprune_export.numerics.removal_order import RemovalOrder, additive

SCORES = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=12)


@given(SCORES)
def test_additive_removes_by_rising_score_and_never_gains(scores):
    removal = additive(torch.tensor(scores))
    ordered = [scores[unit] for unit in removal.order.tolist()]
    assert ordered == sorted(scores)
    assert removal.error[0] == 0
    assert bool((removal.error.diff() >= 0).all())


def test_additive_adds_up():
    removal = additive(torch.tensor([3.0, 1.0, 2.0]))
    assert removal.order.tolist() == [1, 2, 0]
    assert removal.error.tolist() == [0, 1, 3, 6]
    assert removal.kept(2) == (0, 2)
    assert removal.kept(0) == ()


def test_negative_scores_are_raised_together():
    assert additive(torch.tensor([-1.0, 1.0])).error.tolist() == [0, 0, 2]


@given(SCORES)
def test_scores_keep_the_order(scores):
    """A threshold on them removes what the order removes."""
    removal = additive(torch.tensor(scores))
    assert torch.sort(removal.scores(), stable=True).values.tolist() == pytest.approx(
        removal.scores()[removal.order].tolist()
    )


def test_scores_of_a_curve_that_is_not_convex_never_fall():
    removal = RemovalOrder(torch.tensor([2, 0, 1]), torch.tensor([0.0, 5.0, 6.0, 9.0]).double())
    assert removal.scores().tolist() == [5.0, 5.0, 5.0]


@pytest.mark.parametrize(("order", "error"), [([0, 0], [0, 1, 2]), ([0, 1], [0, 1])])
def test_what_is_no_order_is_refused(order, error):
    with pytest.raises(AssertionError):
        RemovalOrder(torch.tensor(order), torch.tensor(error).double())
