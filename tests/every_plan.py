"""Removals of sites that never exist, and every plan along them: the oracle of error curves."""

import itertools
import math

import torch

from numprune_export.models.site import Producer, Site
from numprune_export.numerics.convex_hull import lower_hull
from numprune_export.numerics.removal_order import RemovalOrder, additive
from numprune_export.pruning.allocate.error_curves import Curves

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
    return RemovalOrder(order, torch.cat([torch.zeros(1).double(), rises.cumsum(0)]))


def curves_of(sites, seed, *, convex=True):
    return {site.name: curve(site, 100 * seed + i, convex=convex) for i, site in enumerate(sites)}


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


def whole(sites, price=Site.cost):
    return math.fsum(price(site, range(site.units)) for site in sites)


def every_choice(sites, removals, chosen, price=Site.cost):
    """(cost, error) of all plans along the orders."""
    choices = [
        [
            (
                price(site, removals[site.name].kept(n)),
                float(removals[site.name].error[site.units - n]),
            )
            for n in chosen.counts(site)
        ]
        for site in sites
    ]
    for plan in itertools.product(*choices):
        yield math.fsum(c for c, _ in plan), math.fsum(e for _, e in plan)


def best(choices, budget):
    return min(e for c, e in choices if c <= budget)


def lagrangian_bound(choices, budget):
    """No plan within the budget has less error: the lower hull of all plans, at the budget."""
    points = sorted(choices)
    x = sorted({c for c, _ in points})
    y = [min(e for c, e in points if c == price) for price in x]
    hull = lower_hull(x, y)
    for left, right in itertools.pairwise(hull):
        if x[left] <= budget <= x[right]:
            share = (budget - x[left]) / (x[right] - x[left])
            return y[left] + share * (y[right] - y[left])
    return y[-1]
