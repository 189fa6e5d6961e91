"""What error curves may be priced in: parameters of shared heads, MACs, milliseconds, any table."""

import math
from functools import partial

import torch
from every_plan import (
    PLAIN,
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
from small_sites import sites

from numprune_export.models.site import Producer, Site
from numprune_export.numerics.removal_order import RemovalOrder
from numprune_export.pruning.allocate.cost import site_macs, unit_macs
from numprune_export.pruning.allocate.error_curves import allocate


def test_the_last_query_head_of_a_group_frees_what_the_group_shares():
    """Heads 0 and 2 are the cheapest, but only 0 and 1 together free a key and value."""
    site = grouped(own=10, shared=40)  # 120 in all
    removal = RemovalOrder(torch.tensor([0, 2, 1, 3]), torch.tensor([0, 1, 2, 3, 4.0]).double())
    # The hull jumps over two heads of different groups: they free 20 parameters, the third 50.
    assert allocate([site], {site.name: removal}, 0.5, PLAIN).kept[site.name] == (3,)
    # Nothing on the way to there is enough, so all three go; then none can be had back.
    assert allocate([site], {site.name: removal}, 0.8, PLAIN).kept[site.name] == (3,)
    assert allocate([site], {site.name: removal}, 0.85, PLAIN).kept[site.name] == (1, 3)


def test_the_price_is_that_of_the_units_that_stay():
    """The head that goes first is alone on its key and value."""
    site = grouped(groups=(3, 1), own=10, shared=40)
    removal = RemovalOrder(torch.tensor([3, 0, 1, 2]), torch.tensor([0, 1, 2, 3, 4.0]).double())
    plan = allocate([site], {site.name: removal}, math.nextafter(70 / 120, 1), PLAIN)
    assert plan.kept[site.name] == (0, 1, 2)


def test_milliseconds_of_a_table_are_a_price():
    """Steps of four: a width in between costs as much as the next step, and is never chosen."""
    model_sites = sites(blocks=2, heads=3, neurons=12)
    table = {"attention": [0.0, 2.0, 2.5, 4.0], "mlp": [0.0] + [1.0] * 4 + [1.5] * 4 + [2.1] * 4}

    def milliseconds(site, kept):
        return table[site.kind][len(kept)]

    removals = curves_of(model_sites, 7)
    choices = list(every_choice(model_sites, removals, PLAIN, milliseconds))
    for keep in (0.2, 0.45, 0.7, 0.95):
        plan = allocate(model_sites, removals, keep, PLAIN, price=milliseconds)
        budget = keep * whole(model_sites, milliseconds)
        assert cost(plan, milliseconds) <= budget + 1e-12
        assert error(plan, removals) <= lagrangian_bound(choices, max(0, budget - 4.0)) + 1e-9
        assert {len(plan.kept[s.name]) for s in model_sites if s.kind == "mlp"} <= {0, 4, 8, 12}


def test_a_wider_layer_that_is_measured_faster_is_preferred():
    site = Site(0, "mlp", 4, (Producer("up", 1),), "down", 1, 10, True)
    times = [0.0, 3.0, 1.0, 4.0, 5.0]
    removals = {site.name: straight([1.0] * 4)}
    plan = allocate([site], removals, 0.65, PLAIN, price=lambda _, kept: times[len(kept)])
    assert len(plan.kept[site.name]) == 2


@settings(max_examples=50)
@given(
    seed=st.integers(0, 999),
    keep=st.floats(0, 1),
    tables=st.lists(st.lists(st.integers(0, 9), min_size=6, max_size=6), min_size=2, max_size=2),
)
def test_any_table_of_costs_will_do(seed, keep, tables):
    """Flat, empty and falling stretches."""
    model_sites = [site for site in sites(blocks=2, neurons=5) if site.kind == "mlp"]
    removals = curves_of(model_sites, seed, convex=False)

    def price(site, kept):
        return tables[site.block][len(kept)]

    everything = whole(model_sites, price)
    choices = list(every_choice(model_sites, removals, PLAIN, price))
    least = min(c for c, _ in choices)
    budget = max(keep * everything, least)
    fraction = math.nextafter(budget / everything, 2) if everything else 1.0
    plan = allocate(model_sites, removals, fraction, PLAIN, price=price)
    assert cost(plan, price) <= budget + 1e-9
    assert error(plan, removals) <= lagrangian_bound(choices, max(least, budget - 9)) + 1e-9


@settings(max_examples=30)
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
    model_sites = sites(blocks=2, heads=3, neurons=9)
    units = unit_macs(model_sites, 16, 30.0, causal=True)
    price = partial(site_macs, hidden=16, length=30.0, causal=True)
    assert all(price(site, range(3)) == 3 * units[site.name] for site in model_sites)
    plan = allocate(model_sites, curves_of(model_sites, 8), 0.6, PLAIN, price=price)
    assert 0.5 < cost(plan, price) / whole(model_sites, price) <= 0.6
