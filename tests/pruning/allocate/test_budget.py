"""The refusal of a budget that no plan can meet."""

import pytest

from numprune_export.core.errors import RecipeError
from numprune_export.pruning.allocate.budget import Budget, rounded_up


def test_a_budget_that_the_smallest_plan_just_meets_is_accepted():
    Budget(30.0).check(30.0, 100.0)


def test_a_smaller_one_is_refused_with_the_fraction_that_works():
    with pytest.raises(RecipeError, match=r"keep 0\.2 cannot .* possible is 0\.3001$") as caught:
        Budget(20.0, advice=", or lower the floors").check(30.00001, 100.0)
    assert caught.value.hint == "raise `keep`, or lower the floors"


def test_a_budget_in_milliseconds_is_refused_in_milliseconds():
    with pytest.raises(
        RecipeError, match=r"2 ms cannot be met: the smallest possible is 2\.501 ms"
    ):
        Budget(2.0, "ms").check(2.5001, 10.0)


@pytest.mark.parametrize("value", [1 / 3, 2 / 3, 0.5, 1e-7 / 3, 12.34501, 1.0, 0.99999])
def test_rounding_up_never_gives_less_and_at_most_a_thousandth_more(value):
    assert value <= float(rounded_up(value)) <= 1.001 * value
