"""A plan that someone has edited gives the model it says, or one clear refusal."""

import json

import pytest
import torch
from tiny import tiny
from tiny_encoder import FAMILIES as ENCODERS
from tiny_encoder import tiny_encoder

from numprune_export.calibration.statistics import Statistics
from numprune_export.core.errors import InputError
from numprune_export.models.families import FAMILIES
from numprune_export.pruning import apply
from numprune_export.pruning.compensate.none import Nothing
from numprune_export.pruning.plan import Plan

TOKENS = torch.randint(3, 97, (2, 7), generator=torch.Generator().manual_seed(0))


def full_plan(model):
    sites = FAMILIES[model.config.model_type].sites(model)
    return Plan(sites, {site.name: tuple(range(site.units)) for site in sites})


def edited(plan, **changes):
    """The plan after its JSON was written, changed in its first site, and read."""
    content = json.loads(json.dumps(plan.to_json()))
    content["sites"][0] |= changes
    return Plan.from_json(content)


def follow(model, plan):
    family = FAMILIES[model.config.model_type]
    return apply.one_shot(model, family, plan, Nothing(), Statistics.of_nothing)


@pytest.mark.parametrize("model_type", sorted(ENCODERS))
def test_a_layer_emptied_by_hand_is_empty(model_type):
    model = tiny_encoder(model_type)
    plan = edited(full_plan(model), kept=[])
    small = follow(model, plan)
    family = FAMILIES[model_type]
    consumer = family.block_list(model)[0].get_submodule(family.attention_output)
    consumer.weight.data.zero_()
    assert plan.kept_parameters == plan.prunable_parameters - 4 * plan.sites[0].unit_cost
    assert torch.equal(small(TOKENS).logits, model(TOKENS).logits)


@pytest.mark.parametrize(
    ("kept", "what"),
    [
        ([], "`layers.0.attention` keeps no unit, but its block needs at least one"),
        ([1, 0], "the kept units of `layers.0.attention` are not strictly rising"),
        ([1, 1], "the kept units of `layers.0.attention` are not strictly rising"),
        ([4], "`layers.0.attention` keeps a unit outside 0 to 3"),
        ([-1], "`layers.0.attention` keeps a unit outside 0 to 3"),
        (["a"], "`layers.0.attention` keeps a unit that is not an integer"),
        ([0.0], "`layers.0.attention` keeps a unit that is not an integer"),
        ([True], "`layers.0.attention` keeps a unit that is not an integer"),
        (None, "TypeError"),
    ],
)
def test_units_that_cannot_be_kept_are_refused(kept, what):
    with pytest.raises(InputError, match=what):
        edited(full_plan(tiny()), kept=kept)


@pytest.mark.parametrize(
    "content", [{}, {"sites": []}, {"sites": [{}]}, {"sites": [3]}, {"sites": None}]
)
def test_what_is_no_plan_is_refused(content):
    with pytest.raises(InputError, match="invalid plan: "):
        Plan.from_json(content)


def test_a_site_listed_twice_is_refused():
    content = full_plan(tiny()).to_json()
    content["sites"].append(content["sites"][0])
    with pytest.raises(InputError, match="listed twice"):
        Plan.from_json(content)


@pytest.mark.parametrize(
    "changes", [{"may_be_empty": True, "kept": []}, {"units": 8}, {"consumer": "mlp.down_proj"}]
)
def test_a_plan_whose_sites_are_not_the_models_is_refused(changes):
    model = tiny()
    with pytest.raises(InputError, match="does not match this `llama` model"):
        follow(model, edited(full_plan(model), **changes))


def test_a_plan_of_another_model_is_refused():
    with pytest.raises(InputError, match="does not match this `bert` model"):
        follow(tiny_encoder("bert"), full_plan(tiny_encoder("distilbert")))
