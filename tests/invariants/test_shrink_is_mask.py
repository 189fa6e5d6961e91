"""The invariant the product rests on: a shrunken model is the masked model, only smaller."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import MODEL_TYPES, tiny

from numprune_export.calibration.statistics import Statistics
from numprune_export.data.corpus import Windows
from numprune_export.models.families import FAMILIES
from numprune_export.pruning import apply, rewrite
from numprune_export.pruning.compensate.bias import Bias
from numprune_export.pruning.compensate.none import Nothing
from numprune_export.pruning.plan import Plan

MODELS = {name: tiny(name).double() for name in MODEL_TYPES}


def plans(family, model):
    """Any non-empty kept set at every site."""
    sites = family.sites(model)
    sets = {
        site.name: st.sets(st.integers(0, site.units - 1), min_size=1).map(
            lambda kept: tuple(sorted(kept))
        )
        for site in sites
    }
    return st.fixed_dictionaries(sets).map(lambda kept: Plan(sites, kept))


@pytest.mark.parametrize("single", [False, True], ids=["kv heads", "query heads"])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
@settings(max_examples=15)
@given(data=st.data())
def test_shrunken_model_equals_masked_model(model_type, single, data):
    family, model = FAMILIES[model_type], MODELS[model_type]
    family = family.with_single_query_heads() if single else family
    plan = data.draw(plans(family, model))
    before = rewrite.parameter_count(model)

    masked = rewrite.masked(model, family, plan)
    small = apply.one_shot(model, family, plan, Nothing(), Statistics.of_nothing)

    tokens = torch.randint(0, 97, (2, 7))
    torch.testing.assert_close(small(tokens).logits, masked(tokens).logits, rtol=0, atol=1e-9)
    gone = plan.prunable_parameters - plan.kept_parameters
    assert rewrite.parameter_count(small) == before - gone
    assert rewrite.parameter_count(model) == before


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_keeping_everything_changes_nothing(model_type):
    family, model = FAMILIES[model_type], MODELS[model_type]
    sites = family.sites(model)
    plan = Plan(sites, {site.name: tuple(range(site.units)) for site in sites})
    windows = Windows(np.ones((1, 4), np.int64), np.full(1, 4))
    small = apply.sequential(
        model, family, plan, Bias(order="sequential"), windows, 1, lambda _: None
    )
    tokens = torch.randint(0, 97, (2, 7))
    assert torch.equal(small(tokens).logits, model(tokens).logits)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_dense_model_is_left_as_it_was(model_type):
    family, model = FAMILIES[model_type], MODELS[model_type]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sites = family.sites(model)
    plan = Plan(sites, {site.name: (0,) for site in sites})

    def ones(site):
        n = site.inputs
        return Statistics(torch.eye(n), torch.ones(n, dtype=torch.float64), 1)

    small = apply.one_shot(model, family, plan, Bias(), ones)

    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert small.model.layers[0].mlp.down_proj.bias is not None
    assert small.model.layers[0].mlp.intermediate_size == 1
    assert model.model.layers[0].mlp.intermediate_size == 96
    assert small.lm_head.weight.data_ptr() == model.lm_head.weight.data_ptr()
