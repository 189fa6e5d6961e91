"""Error curves are followed at the widths that a layer may have."""

import math

import pytest
from every_plan import PLAIN, curves_of, straight, whole
from small_sites import sites

from numprune_export.core.errors import RecipeError
from numprune_export.pruning.allocate.error_curves import Curves, allocate


@pytest.mark.parametrize("keep", [0.3, 0.55, 0.8])
def test_mlp_widths_are_multiples_and_the_budget_is_used(keep):
    model_sites = sites(blocks=3, heads=2, neurons=[48, 50, 64], empty=False)
    plan = allocate(model_sites, curves_of(model_sites, 3), keep, Curves(align_to=8))
    for site in model_sites:
        if site.kind == "mlp":
            count = len(plan.kept[site.name])
            assert count == site.units or count % 8 == 0
            assert count > 0
    largest_step = 8 * 65
    assert keep - largest_step / plan.prunable_parameters <= plan.keep <= keep


def test_the_curve_is_followed_at_allowed_widths_only():
    """7 of 8 channels of site 0 are free and the last is dear; in fours, site 1 is the better one."""
    model_sites = [site for site in sites(blocks=2, neurons=8) if site.kind == "mlp"]
    removals = {
        model_sites[0].name: straight([0.0] * 5 + [9.0] * 3),
        model_sites[1].name: straight([1.0] * 8),
    }
    widths = [
        len(allocate(model_sites, removals, 0.25, PLAIN).kept[site.name]) for site in model_sites
    ]
    assert widths == [3, 1]
    fours = allocate(model_sites, removals, 0.25, Curves(align_to=4))
    assert [len(fours.kept[site.name]) for site in model_sites] == [4, 0]


def test_floors_hold_and_one_unit_stays_where_a_block_needs_one():
    model_sites = sites(blocks=2, heads=4, neurons=10, empty=False)
    removals = {site.name: straight([0.0] * site.units) for site in model_sites}
    least = sum(site.unit_cost for site in model_sites) / whole(model_sites)
    plan = allocate(model_sites, removals, math.nextafter(least, 1), PLAIN)
    assert {len(units) for units in plan.kept.values()} == {1}
    floored = allocate(model_sites, removals, 0.5, Curves(min_keep=0.45, align_to=1))
    assert all(
        len(units) >= 0.45 * site.units
        for site, units in zip(model_sites, floored.kept.values(), strict=True)
    )


def test_a_budget_below_the_floors_is_refused_with_the_smallest_that_works():
    model_sites = sites(blocks=2, heads=4, neurons=10)
    removals = curves_of(model_sites, 4)
    chosen = Curves(min_keep=0.5, align_to=4)
    with pytest.raises(RecipeError, match=r"keep 0\.2 .* 0\.5387") as caught:
        allocate(model_sites, removals, 0.2, chosen)
    assert "`min_keep` (0.5)" in caught.value.hint
    assert "`align_to` (4)" in caught.value.hint
    assert allocate(model_sites, removals, 0.5387, chosen).keep == pytest.approx(0.5386, abs=1e-4)
