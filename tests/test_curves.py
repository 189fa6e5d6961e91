"""Allocation by error curves against every plan there is."""

import itertools
import math
from functools import partial

import pytest
import torch
from fisher.small_sites import sites
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from numprune_export.curves import Curves, allocate
from numprune_export.errors import NumericalError, RecipeError
from numprune_export.fisher.macs import site_macs, unit_macs
from numprune_export.hull import lower_hull
from numprune_export.plan import Producer, Site
from numprune_export.removal import Removal, additive

PLAIN = Curves(align_to=1)


def grouped(index=0, groups=(2, 2), own=10, shared=40, empty=True):
    """Query heads of width 4 that share keys and values."""
    producers = (Producer("q", 4), Producer("k", 4, True), Producer("v", 4, True))
    return Site(
        index,
        "attention",
        sum(groups),
        producers,
        "o",
        4,
        own,
        empty,
        groups=groups,
        shared_cost=shared,
    )


def curve(site, seed, *, convex=True):
    """A random order with random errors; rising ones if convex."""
    generator = torch.Generator().manual_seed(seed)
    rises = torch.rand(site.units, generator=generator, dtype=torch.float64)
    rises = rises.sort().values if convex else rises.square()
    order = torch.randperm(site.units, generator=generator)
    return Removal(order, torch.cat([torch.zeros(1).double(), rises.cumsum(0)]))


def curves_of(found, seed, *, convex=True):
    return {site.name: curve(site, 100 * seed + i, convex=convex) for i, site in enumerate(found)}


def straight(rises):
    """Units 0, 1, ... go in this order, each adding its rise."""
    return additive(torch.tensor(rises).double())


def error(plan, removals, attention=1.0):
    return math.fsum(
        (attention if site.kind == "attention" else 1.0)
        * float(removals[site.name].error[site.units - len(plan.kept[site.name])])
        for site in plan.sites
    )


def cost(plan, price=Site.cost):
    return math.fsum(price(site, plan.kept[site.name]) for site in plan.sites)


def whole(found, price=Site.cost):
    return math.fsum(price(site, range(site.units)) for site in found)


def every_choice(found, removals, chosen, price=Site.cost):
    """(cost, error) of all plans along the orders."""
    choices = [
        [
            (
                price(site, removals[site.name].kept(n)),
                float(removals[site.name].error[site.units - n]),
            )
            for n in chosen.counts(site)
        ]
        for site in found
    ]
    for one in itertools.product(*choices):
        yield math.fsum(c for c, _ in one), math.fsum(e for _, e in one)


def best(choices, budget):
    return min(e for c, e in choices if c <= budget)


def lagrangian_bound(choices, budget):
    """No plan within the budget has less error: the lower hull of all plans, at the budget."""
    points = sorted(choices)
    x = sorted({c for c, _ in points})
    y = [min(e for c, e in points if c == one) for one in x]
    hull = lower_hull(x, y)
    for left, right in itertools.pairwise(hull):
        if x[left] <= budget <= x[right]:
            share = (budget - x[left]) / (x[right] - x[left])
            return y[left] + share * (y[right] - y[left])
    return y[-1]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 999),
    keep=st.floats(0, 1),
    align=st.sampled_from([1, 2, 3]),
    floor=st.sampled_from([0.0, 0.3]),
    convex=st.booleans(),
)
def test_the_error_is_at_most_a_segment_from_the_least_there_is(seed, keep, align, floor, convex):
    found = [
        *sites(blocks=1, heads=3, neurons=7),
        grouped(1),
        *sites(blocks=3, heads=2, neurons=5)[4:],
    ]
    chosen = Curves(align_to=align, min_keep=floor)
    removals = curves_of(found, seed, convex=convex)
    choices = list(every_choice(found, removals, chosen))
    least = min(c for c, _ in choices)
    keep = max(keep, math.nextafter(least / whole(found), 2))
    plan = allocate(found, removals, keep, chosen)

    budget = keep * whole(found)
    assert cost(plan) <= budget
    dearest = max(whole([site]) for site in found)
    assert error(plan, removals) <= lagrangian_bound(choices, max(least, budget - dearest)) + 1e-9
    for site in found:
        kept = plan.kept[site.name]
        assert len(kept) in chosen.counts(site)
        assert kept == removals[site.name].kept(len(kept))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), keep=st.floats(0, 1))
def test_with_convex_curves_no_plan_is_better_by_more_than_a_unit(seed, keep):
    found, removals = sites(blocks=2, heads=3, neurons=4), {}
    removals = curves_of(found, seed)
    plan = allocate(found, removals, keep, PLAIN)
    choices = list(every_choice(found, removals, PLAIN))
    budget = keep * whole(found)
    dearest = max(site.unit_cost for site in found)
    assert best(choices, budget) - 1e-9 <= error(plan, removals)
    assert error(plan, removals) <= best(choices, max(0, budget - dearest)) + 1e-9


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), convex=st.booleans())
def test_a_budget_at_a_vertex_is_spent_exactly_and_best(seed, convex):
    found = [*sites(blocks=2, heads=2, neurons=4), grouped(2)]
    removals = curves_of(found, seed, convex=convex)
    choices = list(every_choice(found, removals, PLAIN))
    points = sorted(choices)
    x = sorted({c for c, _ in points})
    y = [min(e for c, e in points if c == one) for one in x]
    for vertex in lower_hull(x, y):
        plan = allocate(found, removals, math.nextafter(x[vertex] / whole(found), 2), PLAIN)
        assert error(plan, removals) == pytest.approx(y[vertex], abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), keeps=st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_more_to_keep_is_never_worse(seed, keeps):
    found = [site for site in sites(blocks=3, neurons=9) if site.kind == "mlp"]
    removals = curves_of(found, seed)
    errors = [error(allocate(found, removals, keep, PLAIN), removals) for keep in sorted(keeps)]
    assert all(more <= less + 1e-12 for less, more in itertools.pairwise(errors))


@pytest.mark.parametrize("keep", [0.0, 1.0])
def test_all_or_nothing(keep):
    found = [*sites(blocks=2), grouped(2)]
    plan = allocate(found, curves_of(found, 1, convex=False), keep, PLAIN)
    assert plan.keep == keep


@pytest.mark.parametrize("keep", [0.3, 0.55, 0.8])
def test_mlp_widths_are_multiples_and_the_budget_is_used(keep):
    found = sites(blocks=3, heads=2, neurons=[48, 50, 64], empty=False)
    plan = allocate(found, curves_of(found, 3), keep, Curves(align_to=8))
    for site in found:
        if site.kind == "mlp":
            count = len(plan.kept[site.name])
            assert count == site.units or count % 8 == 0
            assert count > 0
    largest_step = 8 * 65
    assert keep - largest_step / plan.prunable_parameters <= plan.keep <= keep


def test_the_curve_is_followed_at_allowed_widths_only():
    """7 of 8 channels of site 0 are free and the last is dear; in fours, site 1 is the better one."""
    found = [site for site in sites(blocks=2, neurons=8) if site.kind == "mlp"]
    removals = {
        found[0].name: straight([0.0] * 5 + [9.0] * 3),
        found[1].name: straight([1.0] * 8),
    }
    widths = [len(allocate(found, removals, 0.25, PLAIN).kept[site.name]) for site in found]
    assert widths == [3, 1]
    fours = allocate(found, removals, 0.25, Curves(align_to=4))
    assert [len(fours.kept[site.name]) for site in found] == [4, 0]


def test_floors_hold_and_one_unit_stays_where_a_block_needs_one():
    found = sites(blocks=2, heads=4, neurons=10, empty=False)
    removals = {site.name: straight([0.0] * site.units) for site in found}
    least = sum(site.unit_cost for site in found) / whole(found)
    plan = allocate(found, removals, math.nextafter(least, 1), PLAIN)
    assert {len(units) for units in plan.kept.values()} == {1}
    floored = allocate(found, removals, 0.5, Curves(min_keep=0.45, align_to=1))
    assert all(
        len(units) >= 0.45 * site.units
        for site, units in zip(found, floored.kept.values(), strict=True)
    )


def test_a_budget_below_the_floors_is_refused_with_the_smallest_that_works():
    found = sites(blocks=2, heads=4, neurons=10)
    removals = curves_of(found, 4)
    chosen = Curves(min_keep=0.5, align_to=4)
    with pytest.raises(RecipeError, match=r"keep 0\.2 .* 0\.5386") as caught:
        allocate(found, removals, 0.2, chosen)
    assert "`min_keep` (0.5)" in caught.value.hint
    assert "`align_to` (4)" in caught.value.hint
    assert allocate(found, removals, 0.5387, chosen).keep == pytest.approx(0.5386, abs=1e-4)


def test_the_last_query_head_of_a_group_frees_what_the_group_shares():
    """Heads 0 and 2 are the cheapest, but only 0 and 1 together free a key and value."""
    site = grouped(own=10, shared=40)  # 120 in all
    removal = Removal(torch.tensor([0, 2, 1, 3]), torch.tensor([0, 1, 2, 3, 4.0]).double())
    # The hull jumps over two heads of different groups: they free 20 parameters, the third 50.
    assert allocate([site], {site.name: removal}, 0.5, PLAIN).kept[site.name] == (3,)
    # Nothing on the way to there is enough, so all three go; then none can be had back.
    assert allocate([site], {site.name: removal}, 0.8, PLAIN).kept[site.name] == (3,)
    assert allocate([site], {site.name: removal}, 0.85, PLAIN).kept[site.name] == (1, 3)


def test_the_price_is_that_of_the_units_that_stay():
    """The head that goes first is alone on its key and value."""
    site = grouped(groups=(3, 1), own=10, shared=40)
    removal = Removal(torch.tensor([3, 0, 1, 2]), torch.tensor([0, 1, 2, 3, 4.0]).double())
    plan = allocate([site], {site.name: removal}, math.nextafter(70 / 120, 1), PLAIN)
    assert plan.kept[site.name] == (0, 1, 2)


def test_no_more_goes_than_is_needed():
    """A hull from all to nothing is left where the budget is met."""
    found = [site for site in sites(blocks=2, neurons=4) if site.kind == "mlp"]
    removals = {
        found[0].name: Removal(torch.arange(4), torch.tensor([0, 9, 9, 9, 9.0]).double()),
        found[1].name: straight([5.0] * 4),
    }
    plan = allocate(found, removals, 0.75, PLAIN)
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
    found = sites(blocks=1, heads=4, neurons=60, empty=False)
    removals = curves_of(found, 6)
    heads = [
        len(allocate(found, removals, 0.5, PLAIN, attention=factor).kept["layers.0.attention"])
        for factor in (1e-6, 1.0, 30.0, 1e6)
    ]
    assert heads == sorted(heads)
    assert heads[0] < heads[-1]


def test_without_hulls_a_dear_unit_hides_the_cheap_ones_behind_it():
    found = [site for site in sites(blocks=2, neurons=4) if site.kind == "mlp"]
    removals = {
        found[0].name: Removal(torch.arange(4), torch.tensor([0, 5, 5, 5, 5.0]).double()),
        found[1].name: straight([2.0] * 4),
    }
    hulls = allocate(found, removals, 0.5, PLAIN)
    assert [len(units) for units in hulls.kept.values()] == [0, 4]
    raw = allocate(found, removals, 0.5, Curves(align_to=1, convex=False))
    assert [len(units) for units in raw.kept.values()] == [4, 0]


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_equal_scores_cut_all_sites_alike(score):
    found = [site for site in sites(blocks=4, neurons=20) if site.kind == "mlp"]
    removals = {site.name: straight([score] * 20) for site in found}
    for keep in (0.25, 0.6, 0.8125):
        plan = allocate(found, removals, keep, PLAIN)
        counts = [len(units) for units in plan.kept.values()]
        assert max(counts) - min(counts) <= 1
        assert sum(counts) == int(keep * 80)
        assert plan == allocate(found, removals, keep, PLAIN)


def test_milliseconds_of_a_table_are_a_price():
    """Steps of four: a width in between costs as much as the next step, and is never chosen."""
    found = sites(blocks=2, heads=3, neurons=12)
    table = {"attention": [0.0, 2.0, 2.5, 4.0], "mlp": [0.0] + [1.0] * 4 + [1.5] * 4 + [2.1] * 4}

    def milliseconds(site, kept):
        return table[site.kind][len(kept)]

    removals = curves_of(found, 7)
    choices = list(every_choice(found, removals, PLAIN, milliseconds))
    for keep in (0.2, 0.45, 0.7, 0.95):
        plan = allocate(found, removals, keep, PLAIN, price=milliseconds)
        budget = keep * whole(found, milliseconds)
        assert cost(plan, milliseconds) <= budget + 1e-12
        assert error(plan, removals) <= lagrangian_bound(choices, max(0, budget - 4.0)) + 1e-9
        assert {len(plan.kept[s.name]) for s in found if s.kind == "mlp"} <= {0, 4, 8, 12}


def test_a_wider_layer_that_is_measured_faster_is_preferred():
    site = Site(0, "mlp", 4, (Producer("up", 1),), "down", 1, 10, True)
    times = [0.0, 3.0, 1.0, 4.0, 5.0]
    removals = {site.name: straight([1.0] * 4)}
    plan = allocate([site], removals, 0.65, PLAIN, price=lambda _, kept: times[len(kept)])
    assert len(plan.kept[site.name]) == 2


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 999),
    keep=st.floats(0, 1),
    tables=st.lists(st.lists(st.integers(0, 9), min_size=6, max_size=6), min_size=2, max_size=2),
)
def test_any_table_of_costs_will_do(seed, keep, tables):
    """Flat, empty and falling stretches."""
    found = [site for site in sites(blocks=2, neurons=5) if site.kind == "mlp"]
    removals = curves_of(found, seed, convex=False)

    def price(site, kept):
        return tables[site.block][len(kept)]

    everything = whole(found, price)
    choices = list(every_choice(found, removals, PLAIN, price))
    least = min(c for c, _ in choices)
    budget = max(keep * everything, least)
    fraction = math.nextafter(budget / everything, 2) if everything else 1.0
    plan = allocate(found, removals, fraction, PLAIN, price=price)
    assert cost(plan, price) <= budget + 1e-9
    assert error(plan, removals) <= lagrangian_bound(choices, max(least, budget - 9)) + 1e-9


@settings(deadline=None, max_examples=30)
@given(kept=st.sets(st.integers(0, 4)), causal=st.booleans(), length=st.sampled_from([7, 30.55]))
def test_macs_of_query_heads_count_shared_keys_once_a_group(kept, causal, length):
    site, kept = grouped(groups=(2, 3)), sorted(kept)
    pairs = length * (length + 1) / 2 if causal else length**2
    groups = len({unit // 2 if unit < 4 else 1 for unit in kept})
    expected = len(kept) * round(length * 16 * (4 + 4) + 2 * pairs * 4) + groups * round(
        length * 16 * 8
    )
    assert site_macs(site, kept, hidden=16, length=length, causal=causal) == expected


def test_macs_are_a_price_and_without_sharing_those_of_units():
    found = sites(blocks=2, heads=3, neurons=9)
    units = unit_macs(found, 16, 30.0, causal=True)
    price = partial(site_macs, hidden=16, length=30.0, causal=True)
    assert all(price(site, range(3)) == 3 * units[site.name] for site in found)
    plan = allocate(found, curves_of(found, 8), 0.6, PLAIN, price=price)
    assert 0.5 < cost(plan, price) / whole(found, price) <= 0.6


def test_an_error_that_is_not_finite_is_refused_by_name():
    found = sites(blocks=1)
    removals = curves_of(found, 9)
    removals["layers.0.mlp"].error[2] = torch.nan
    with pytest.raises(NumericalError, match=r"layers\.0\.mlp"):
        allocate(found, removals, 0.5, PLAIN)


def test_settings():
    assert Curves(attention=2).candidates == (2.0,)
    assert Curves(attention=[1, 1.5]).candidates == (1.0, 1.5)
    for wrong in ((), (1.0, 0.0), -1):
        with pytest.raises(ValidationError):
            Curves(attention=wrong)


@settings(max_examples=50)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=12))
def test_no_line_between_points_runs_below_the_hull(y):
    x = range(len(y))
    hull = lower_hull(x, y)
    assert hull[0] == 0
    assert hull[-1] == len(y) - 1
    for left, right in itertools.pairwise(hull):
        for one in range(len(y)):
            line = y[left] + (y[right] - y[left]) * (one - left) / (right - left)
            assert y[one] >= line - 1e-9 * 10 * len(y)
