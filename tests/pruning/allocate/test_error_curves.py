"""Allocation by error curves against every plan there is."""

import itertools
import math

import pytest
import torch
from every_plan import (
    PLAIN,
    best,
    cost,
    curves_of,
    error,
    every_choice,
    grouped,
    lagrangian_bound,
    straight,
    whole,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from small_sites import sites

from numprune_export.core.errors import NumericalError
from numprune_export.models.site import Producer, Site
from numprune_export.numerics.convex_hull import lower_hull
from numprune_export.numerics.removal_order import RemovalOrder
from numprune_export.pruning.allocate.error_curves import Curves, allocate


@settings(max_examples=60)
@given(
    seed=st.integers(0, 999),
    keep=st.floats(0, 1),
    align=st.sampled_from([1, 2, 3]),
    floor=st.sampled_from([0.0, 0.3]),
    convex=st.booleans(),
)
def test_the_error_is_at_most_a_segment_from_the_least_there_is(seed, keep, align, floor, convex):
    model_sites = [
        *sites(blocks=1, heads=3, neurons=7),
        grouped(1),
        *sites(blocks=3, heads=2, neurons=5)[4:],
    ]
    chosen = Curves(align_to=align, min_keep=floor)
    removals = curves_of(model_sites, seed, convex=convex)
    choices = list(every_choice(model_sites, removals, chosen))
    least = min(c for c, _ in choices)
    keep = max(keep, math.nextafter(least / whole(model_sites), 2))
    plan = allocate(model_sites, removals, keep, chosen)

    budget = keep * whole(model_sites)
    assert cost(plan) <= budget
    dearest = max(whole([site]) for site in model_sites)
    assert error(plan, removals) <= lagrangian_bound(choices, max(least, budget - dearest)) + 1e-9
    for site in model_sites:
        kept = plan.kept[site.name]
        assert len(kept) in chosen.counts(site)
        assert kept == removals[site.name].kept(len(kept))


@settings(max_examples=40)
@given(seed=st.integers(0, 999), keep=st.floats(0, 1))
def test_with_convex_curves_no_plan_is_better_by_more_than_a_unit(seed, keep):
    model_sites, removals = sites(blocks=2, heads=3, neurons=4), {}
    removals = curves_of(model_sites, seed)
    plan = allocate(model_sites, removals, keep, PLAIN)
    choices = list(every_choice(model_sites, removals, PLAIN))
    budget = keep * whole(model_sites)
    dearest = max(site.unit_cost for site in model_sites)
    assert best(choices, budget) - 1e-9 <= error(plan, removals)
    assert error(plan, removals) <= best(choices, max(0, budget - dearest)) + 1e-9


@settings(max_examples=30)
@given(seed=st.integers(0, 999), convex=st.booleans())
def test_a_budget_at_a_vertex_is_spent_exactly_and_best(seed, convex):
    model_sites = [*sites(blocks=2, heads=2, neurons=4), grouped(2)]
    removals = curves_of(model_sites, seed, convex=convex)
    choices = list(every_choice(model_sites, removals, PLAIN))
    points = sorted(choices)
    x = sorted({c for c, _ in points})
    y = [min(e for c, e in points if c == total_cost) for total_cost in x]
    for vertex in lower_hull(x, y):
        plan = allocate(
            model_sites, removals, math.nextafter(x[vertex] / whole(model_sites), 2), PLAIN
        )
        assert error(plan, removals) == pytest.approx(y[vertex], abs=1e-9)


@settings(max_examples=40)
@given(seed=st.integers(0, 999), keeps=st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_more_to_keep_is_never_worse(seed, keeps):
    model_sites = [site for site in sites(blocks=3, neurons=9) if site.kind == "mlp"]
    removals = curves_of(model_sites, seed)
    errors = [
        error(allocate(model_sites, removals, keep, PLAIN), removals) for keep in sorted(keeps)
    ]
    assert all(more <= less + 1e-12 for less, more in itertools.pairwise(errors))


@pytest.mark.parametrize("keep", [0.0, 1.0])
def test_all_or_nothing(keep):
    model_sites = [*sites(blocks=2), grouped(2)]
    plan = allocate(model_sites, curves_of(model_sites, 1, convex=False), keep, PLAIN)
    assert plan.keep == keep


def test_no_more_goes_than_is_needed():
    """A hull from all to nothing is left where the budget is met."""
    model_sites = [site for site in sites(blocks=2, neurons=4) if site.kind == "mlp"]
    removals = {
        model_sites[0].name: RemovalOrder(
            torch.arange(4), torch.tensor([0, 9, 9, 9, 9.0]).double()
        ),
        model_sites[1].name: straight([5.0] * 4),
    }
    plan = allocate(model_sites, removals, 0.75, PLAIN)
    assert [len(units) for units in plan.kept.values()] == [2, 4]


def test_what_a_segment_leaves_over_buys_back_the_best_unit_that_fits():
    head = Site(0, "attention", 2, (Producer("q", 8),), "o", 8, 100, True)
    mlp = Site(0, "mlp", 10, (Producer("up", 1),), "down", 1, 10, True)
    removals = {
        head.name: straight([3.0, 50.0]),
        mlp.name: straight([0.07 * k for k in range(1, 11)]),
    }
    # 300 in all, 186 may stay: four channels go, then a head at a slope of 0.03, and 160 are left.
    plan = allocate([head, mlp], removals, 0.62, PLAIN)
    assert plan.kept[head.name] == (1,)
    assert plan.kept[mlp.name] == tuple(range(2, 10))


def test_attention_errors_are_multiplied():
    model_sites = sites(blocks=1, heads=4, neurons=60, empty=False)
    removals = curves_of(model_sites, 6)
    heads = [
        len(
            allocate(model_sites, removals, 0.5, PLAIN, attention=factor).kept["layers.0.attention"]
        )
        for factor in (1e-6, 1.0, 30.0, 1e6)
    ]
    assert heads == sorted(heads)
    assert heads[0] < heads[-1]


def test_without_hulls_a_dear_unit_hides_the_cheap_ones_behind_it():
    model_sites = [site for site in sites(blocks=2, neurons=4) if site.kind == "mlp"]
    removals = {
        model_sites[0].name: RemovalOrder(
            torch.arange(4), torch.tensor([0, 5, 5, 5, 5.0]).double()
        ),
        model_sites[1].name: straight([2.0] * 4),
    }
    hulls = allocate(model_sites, removals, 0.5, PLAIN)
    assert [len(units) for units in hulls.kept.values()] == [0, 4]
    raw = allocate(model_sites, removals, 0.5, Curves(align_to=1, convex=False))
    assert [len(units) for units in raw.kept.values()] == [4, 0]


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_equal_scores_cut_all_sites_alike(score):
    model_sites = [site for site in sites(blocks=4, neurons=20) if site.kind == "mlp"]
    removals = {site.name: straight([score] * 20) for site in model_sites}
    for keep in (0.25, 0.6, 0.8125):
        plan = allocate(model_sites, removals, keep, PLAIN)
        counts = [len(units) for units in plan.kept.values()]
        assert max(counts) - min(counts) <= 1
        assert sum(counts) == int(keep * 80)
        assert plan == allocate(model_sites, removals, keep, PLAIN)


def test_an_error_that_is_not_finite_is_refused_by_name():
    model_sites = sites(blocks=1)
    removals = curves_of(model_sites, 9)
    removals["layers.0.mlp"].error[2] = torch.nan
    with pytest.raises(NumericalError, match=r"layers\.0\.mlp"):
        allocate(model_sites, removals, 0.5, PLAIN)


def test_settings():
    assert Curves(attention=2).candidates == (2.0,)
    assert Curves(attention=[1, 1.5]).candidates == (1.0, 1.5)
    for wrong in ((), (1.0, 0.0), -1):
        with pytest.raises(ValidationError):
            Curves(attention=wrong)
