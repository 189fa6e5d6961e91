"""Allocation: the budget is met, floors and alignment hold, the best units stay."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from numprune_export.core.errors import NumericalError, RecipeError
from numprune_export.models.site import Producer, Site
from numprune_export.pruning.allocate.threshold import Allocation, allocate
from numprune_export.pruning.plan import Plan


def block(index, groups=4, channels=40, hidden=16, width=8):
    q = Producer("self_attn.q_proj", width)
    attention = Site(
        index, "attention", groups, (q,), "self_attn.o_proj", width, 4 * width * hidden
    )
    up = Producer("mlp.up_proj", 1)
    return attention, Site(index, "mlp", channels, (up,), "mlp.down_proj", 1, 3 * hidden)


def model(blocks=3, **widths):
    return [site for index in range(blocks) for site in block(index, **widths)]


def random_scores(sites, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    return {
        site.name: torch.rand(site.inputs, generator=generator).double() * spread for site in sites
    }


def unit_scores(site, columns):
    return columns.reshape(site.units, site.consumer_width).mean(1)


METHODS = st.sampled_from(["global", "uniform"])


@given(
    method=METHODS,
    keep=st.floats(0.4, 1.0),
    align=st.sampled_from([1, 4, 8]),
    floor=st.floats(0, 0.25),
    seed=st.integers(0, 99),
    standardise=st.booleans(),
)
def test_every_plan_meets_its_budget_floor_and_alignment(
    method, keep, align, floor, seed, standardise
):
    sites = model()
    settings_ = Allocation(method=method, align_to=align, min_keep=floor, standardise=standardise)
    scores = random_scores(sites, seed)
    plan = allocate(sites, scores, keep, settings_)

    assert plan.keep <= keep + 1e-12
    for site in sites:
        kept = plan.kept[site.name]
        assert len(kept) >= max(1, floor * site.units)
        assert site.kind == "attention" or len(kept) % align == 0 or len(kept) == site.units
        ranked = unit_scores(site, scores[site.name])
        removed = plan.removed(site)
        assert not removed or ranked[list(kept)].min() >= ranked[list(removed)].max()


@given(keep=st.floats(0.3, 1.0), align=st.sampled_from([1, 8]), seed=st.integers(0, 99))
def test_global_leaves_less_than_one_step_unspent(keep, align, seed):
    sites = model()
    plan = allocate(sites, random_scores(sites, seed), keep, Allocation(align_to=align, min_keep=0))
    left = keep * plan.prunable_parameters - plan.kept_parameters
    channel_step = align * sites[1].unit_cost
    room = any(site.kind == "mlp" and plan.removed(site) for site in sites)
    assert not room or left < channel_step


def test_keep_one_keeps_everything():
    sites = model()
    for method in ("global", "uniform", "literal"):
        plan = allocate(sites, random_scores(sites), 1.0, Allocation(method=method))
        assert plan.keep == 1.0


def test_global_takes_from_the_layer_that_matters_least():
    sites = model()
    scores = random_scores(sites)
    scores["layers.1.mlp"] *= 0.01
    plan = allocate(sites, scores, 0.8, Allocation(standardise=False, min_keep=0.2))
    kept = {site.name: len(plan.kept[site.name]) / site.units for site in sites}
    assert kept["layers.1.mlp"] == 0.2
    assert min(value for name, value in kept.items() if name != "layers.1.mlp") > 0.2


def test_standardising_makes_sites_of_different_scale_comparable():
    sites = model()
    scores = random_scores(sites)
    scaled = {name: value * 10.0**index for index, (name, value) in enumerate(scores.items())}
    settings_ = Allocation(standardise=True)
    assert (
        allocate(sites, scaled, 0.7, settings_).kept == allocate(sites, scores, 0.7, settings_).kept
    )
    raw = Allocation(standardise=False)
    assert allocate(sites, scaled, 0.7, raw).kept != allocate(sites, scores, 0.7, raw).kept


def test_uniform_gives_every_block_the_same_widths():
    sites = model(blocks=5)
    plan = allocate(sites, random_scores(sites), 0.7, Allocation(method="uniform", align_to=4))
    assert plan.uniform
    assert plan.keep > 0.66
    assert len(plan.kept["layers.0.attention"]) == 3


def test_uniform_refuses_a_model_that_is_uneven_already():
    sites = [*block(0), *block(1, channels=24)]
    with pytest.raises(RecipeError, match="uniform"):
        allocate(sites, random_scores(sites), 0.7, Allocation(method="uniform"))


def test_the_literal_reading_of_eq_8_spares_the_heads_and_misses_the_budget():
    """Newton's scores sit near `keep` in every site; times α the heads dwarf all channels."""
    sites = model(blocks=6, channels=64)
    scores = {name: 0.5 + 0.1 * (score - 0.5) for name, score in random_scores(sites).items()}
    literal = allocate(sites, scores, 0.5, Allocation(method="literal", align_to=1))
    exact = allocate(sites, scores, 0.5, Allocation(align_to=1, standardise=False))

    attention = [site for site in sites if site.kind == "attention"]
    assert all(not literal.removed(site) for site in attention)
    assert literal.keep > 0.6
    assert exact.keep == pytest.approx(0.5, abs=0.01)


def test_a_head_is_ranked_by_the_mean_of_its_columns():
    (attention, mlp) = block(0, groups=3, width=2)
    scores = {
        attention.name: torch.tensor([9.0, -9.0, 1.0, 1.0, 0.5, 0.4], dtype=torch.float64),
        mlp.name: torch.full((40,), 2.0, dtype=torch.float64),
    }
    budget = 1 - attention.unit_cost / (3 * attention.unit_cost + 40 * mlp.unit_cost)
    plan = allocate([attention, mlp], scores, budget, Allocation(standardise=False, align_to=1))
    assert plan.kept[attention.name] == (1, 2)


def test_a_budget_below_the_floors_says_the_smallest_reachable():
    sites = model()
    with pytest.raises(
        RecipeError, match=r"keep 0\.2 cannot be met: the smallest possible is 0\.5"
    ) as caught:
        allocate(sites, random_scores(sites), 0.2, Allocation(min_keep=0.5))
    assert "min_keep" in caught.value.hint


def test_a_score_that_is_not_a_number_is_refused_by_site():
    sites = model()
    scores = random_scores(sites)
    scores["layers.2.mlp"][7] = float("nan")
    with pytest.raises(NumericalError, match=r"layers\.2\.mlp"):
        allocate(sites, scores, 0.8, Allocation())


def test_a_plan_survives_its_json():
    sites = tuple(model())
    plan = allocate(sites, random_scores(sites), 0.7, Allocation())
    again = Plan.from_json(plan.to_json())
    assert again.sites == plan.sites
    assert again.kept == dict(plan.kept)


@given(keep=st.floats(0.3, 1.0), seed=st.integers(0, 99))
def test_what_query_heads_share_is_counted_once_a_group(keep, seed):
    """The budget is met with what is really left, and nearly spent."""
    sites = []
    for attention, mlp in (block(index, groups=8) for index in range(3)):
        key = Producer("self_attn.k_proj", 8, shared=True)
        grouped = replace(
            attention, producers=(*attention.producers, key), groups=(4, 2, 2), shared_cost=256
        )
        sites += [grouped, mlp]
    settings_ = Allocation(align_to=1, min_keep=0)
    plan = allocate(sites, random_scores(sites, seed), keep, settings_)
    left = keep * plan.prunable_parameters - plan.kept_parameters
    assert 0 <= left <= 512 + 256
