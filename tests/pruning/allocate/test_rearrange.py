"""Rearrangement against every subset, and the paper's greedy pass written out with sets."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sites import random_importance, sites

from numprune_export.calibration.gradients.mask_gradients import importance
from numprune_export.pruning.allocate.budget_search import plan_of, ranked
from numprune_export.pruning.allocate.rearrange import block_loss, rearrange, rearranged


def gradients(rows, units, seed):
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(rows, 1, generator=generator)  # correlated, so that cancelling pays
    return torch.randn(rows, units, generator=generator) + shared * torch.randn(
        units, generator=generator
    )


def by_hand(g, keep):
    """One pass over the kept units, all sums made anew: ‖Σ over P of g‖² in numpy's fp64."""
    g = g.double().numpy()
    units = g.shape[1]
    ascending = sorted(range(units), key=lambda unit: ((g[:, unit] ** 2).sum(), unit))
    gone, visits = set(ascending[: units - keep]), ascending[units - keep :]

    def loss(chosen):
        return (g[:, sorted(chosen)].sum(1) ** 2).sum() if chosen else 0.0

    for unit in visits if gone else []:
        gone.add(unit)
        gone.remove(min(gone, key=lambda candidate: loss(gone - {candidate})))
    return tuple(sorted(set(range(units)) - gone))


SIZES = st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(0, 9), st.integers(0, 9999))


@settings(max_examples=80)
@given(SIZES)
def test_one_round_is_the_papers_greedy_pass(sizes):
    rows, units, keep, seed = sizes
    keep, g = min(keep, units), gradients(rows, units, seed)
    assert rearrange(g, keep) == by_hand(g, keep)


@settings(max_examples=80)
@given(SIZES)
def test_the_loss_never_rises_and_more_rounds_never_hurt(sizes):
    rows, units, keep, seed = sizes
    keep, g = min(keep, units), gradients(rows, units, seed)
    start = sorted(range(units), key=lambda unit: float(importance(g)[unit]))[units - keep :]
    once, stable = rearrange(g, keep), rearrange(g, keep, until_stable=True)
    best = min(block_loss(g, kept) for kept in itertools.combinations(range(units), keep))
    losses = [block_loss(g, start), block_loss(g, once), block_loss(g, stable), best]
    assert all(b <= a + 1e-9 * max(losses) for a, b in itertools.pairwise(losses))
    assert len(once) == len(stable) == keep


def test_it_finds_the_best_subset_more_often_than_the_diagonal_does():
    hits = {"start": 0, "once": 0, "stable": 0}
    for seed in range(60):
        g = gradients(3, 7, seed)
        best = min(block_loss(g, kept) for kept in itertools.combinations(range(7), 4))
        start = sorted(range(7), key=lambda unit: float(importance(g)[unit]))[3:]
        for name, kept in (
            ("start", start),
            ("once", rearrange(g, 4)),
            ("stable", rearrange(g, 4, until_stable=True)),
        ):
            hits[name] += block_loss(g, kept) <= best * (1 + 1e-6)
    assert hits["start"] < hits["once"] <= hits["stable"]
    assert hits["stable"] >= 30


def test_units_whose_gradients_cancel_go_together():
    g = torch.tensor([[3.0, 1.0, -3.0, 1.1]])  # the diagonal would remove 1 and 3
    assert block_loss(g, (0, 2)) == pytest.approx(2.1**2)
    assert rearrange(g, 2) == (0, 1)
    assert block_loss(g, (0, 1)) == pytest.approx(1.9**2)
    assert rearrange(g, 2, until_stable=True) == (1, 3)
    assert block_loss(g, (1, 3)) == 0


@pytest.mark.parametrize("stable", [False, True])
def test_dead_units_are_not_swapped_about(stable):
    assert rearrange(torch.zeros(2, 5), 2, until_stable=stable) == (3, 4)


def test_a_plan_keeps_its_widths():
    model_sites = sites(heads=3, neurons=6)
    g = {site.name: gradients(4, site.units, index) for index, site in enumerate(model_sites)}
    scores = random_importance(model_sites, 0)
    orders = [ranked(site, scores[site.name]) for site in model_sites]
    plan = plan_of(model_sites, orders, [2, 3, 0, 6])
    new = rearranged(plan, g)
    assert [len(new.kept[site.name]) for site in model_sites] == [2, 3, 0, 6]
    assert new.kept["layers.0.mlp"] == rearrange(g["layers.0.mlp"], 3)
