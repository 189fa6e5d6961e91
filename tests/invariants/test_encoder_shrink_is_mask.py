"""Shrunken is masked for encoders too, down to sublayers with nothing left in them."""

from functools import cache

import numpy as np
import pytest
import torch
from emptied import EMPTIED, emptied_encoder, plan_without
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_encoder import FAMILIES, TASKS, tiny_encoder

from numprune_export.calibration import statistics as calibration_statistics
from numprune_export.calibration.statistics import Statistics
from numprune_export.data.corpus import Windows
from numprune_export.numerics.indexing import columns_of_units
from numprune_export.pruning import apply, rewrite
from numprune_export.pruning.compensate.bias import Bias
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.pruning.compensate.none import Nothing
from numprune_export.pruning.plan import Plan

TYPES = sorted(FAMILIES)
LENGTHS = torch.tensor([9, 4, 7])
REPAIRS = [Nothing(), Bias(order="one_shot"), ClosedForm(order="one_shot")]
BOTH = ("layers.1.attention", "layers.1.mlp")


@cache
def dense(model_type, task):
    return tiny_encoder(model_type, task).double()


def batch(model):
    tokens = torch.randint(3, 101, (3, 9), generator=torch.Generator().manual_seed(0))
    real = torch.arange(9) < LENGTHS[:, None]
    tokens = torch.where(real, tokens, model.config.pad_token_id)
    types = (torch.arange(9) > 4).long().expand(3, 9)
    return tokens, real, types * (getattr(model.config, "type_vocab_size", 1) > 1)


def windows(model):
    tokens, _, types = batch(model)
    return Windows(tokens.numpy(), LENGTHS.numpy(), types.numpy())


@torch.no_grad()
def answer(family, model):
    said = model(**family.inputs(*batch(model)))
    if hasattr(said, "start_logits"):
        return torch.stack([said.start_logits, said.end_logits], -1)
    return said.logits


def collect(family, model):
    by_site = {}
    for block_statistics in calibration_statistics.collect(
        model, family, windows(model), 2, lambda _: None
    ):
        by_site |= block_statistics
    return by_site


@cache
def dense_statistics(model_type, task):
    return collect(FAMILIES[model_type], dense(model_type, task))


def masked(family, model, plan, repair, statistics):
    """The dense model at its full size, whose consumers have the repaired columns and zeros."""
    full = rewrite.clone_sharing_parameters(model)
    for site in plan.sites:
        columns = columns_of_units(plan.kept[site.name], site.consumer_width)
        consumer = family.block_list(full)[site.block].get_submodule(site.consumer)
        weight, bias = repair(consumer.weight, consumer.bias, statistics[site.name], columns)
        wide = torch.zeros_like(consumer.weight)
        wide[:, columns] = weight.detach()
        consumer.weight = torch.nn.Parameter(wide)
        consumer.bias = torch.nn.Parameter(bias.detach())
    return full


def plans(family, model):
    sites = family.sites(model)
    sets = {
        site.name: st.sets(st.integers(0, site.units - 1)).map(lambda kept: tuple(sorted(kept)))
        for site in sites
    }
    return st.fixed_dictionaries(sets).map(lambda kept: Plan(sites, kept))


@pytest.mark.parametrize("model_type", TYPES)
@settings(max_examples=12)
@given(data=st.data())
def test_any_plan_shrinks_to_the_masked_model(model_type, data):
    family, model = FAMILIES[model_type], dense(model_type, data.draw(st.sampled_from(TASKS)))
    plan = data.draw(plans(family, model))
    full = rewrite.masked(model, family, plan)
    small = apply.one_shot(model, family, plan, Nothing(), Statistics.of_nothing)

    torch.testing.assert_close(answer(family, small), answer(family, full), rtol=0, atol=1e-9)
    gone = plan.prunable_parameters - plan.kept_parameters
    assert rewrite.parameter_count(small) == rewrite.parameter_count(model) - gone
    assert len(family.sites(small)) == sum(len(kept) > 0 for kept in plan.kept.values())


@pytest.mark.parametrize("emptied", [(), BOTH, EMPTIED], ids=len)
@pytest.mark.parametrize("repair", REPAIRS, ids=lambda compensation: compensation.method)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model_type", TYPES)
def test_each_repair_shrinks_to_what_it_repairs(model_type, task, repair, emptied):
    family, model = FAMILIES[model_type], dense(model_type, task)
    statistics = dense_statistics(model_type, task)
    plan = plan_without(family, model, emptied)
    full = masked(family, model, plan, repair, statistics)
    small = apply.one_shot(model, family, plan, repair, lambda site: statistics[site.name])
    expected = answer(family, full)
    assert not torch.allclose(expected, answer(family, model), atol=1e-3)
    torch.testing.assert_close(answer(family, small), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("model_type", TYPES)
def test_nothing_is_left_of_an_emptied_sublayer_but_a_bias(model_type):
    small, family = emptied_encoder(model_type), FAMILIES[model_type]
    block = family.block_list(small)[2]
    names = {name for name, _ in block.named_parameters()}
    norms = (family.attention_norm, family.mlp_norm)
    assert names == {
        f"{family.attention_output}.bias",
        f"{family.down}.bias",
        *(f"{norm}.{part}" for norm in norms for part in ("weight", "bias")),
    }
    assert not any(isinstance(module, torch.nn.Linear) for module in block.modules())
    layers = family.encoder(small).layers
    assert [layer.heads for layer in layers] == [0, 2, 0]
    assert [layer.neurons for layer in layers] == [24, 0, 0]
    assert layers[2].output.weight.shape == layers[2].down.weight.shape == (32, 0)
    assert layers[2].query.weight.shape == layers[2].up.weight.shape == (0, 32)
    assert layers[2].query.bias.shape == layers[2].up.bias.shape == (0,)
    assert family.attributes(block) == {}


def test_the_bias_repair_leaves_the_mean_of_what_is_gone():
    family, model = FAMILIES["bert"], dense("bert", "token")
    plan = plan_without(family, model, BOTH)
    statistics = dense_statistics("bert", "token")
    small = apply.one_shot(model, family, plan, Bias(), lambda site: statistics[site.name])
    check_mean(family, model, small, statistics["layers.1.attention"].mean)


def test_front_to_back_that_mean_is_of_the_already_pruned_prefix():
    family, model = FAMILIES["bert"], dense("bert", "token")
    plan, repair = plan_without(family, model, BOTH), Bias(order="sequential")
    ticks = []
    small = apply.sequential(model, family, plan, repair, windows(model), 2, ticks.append)
    sites = sum(map(bool, map(plan.removed, plan.sites)))
    assert sum(ticks) == 3 * (3 + 2 * sites)  # passes through blocks, and two for a site
    everything = {site.name: tuple(range(site.units)) for site in plan.sites}
    first = {name: plan.kept[name] for name in ("layers.0.attention", "layers.0.mlp")}
    prefix = Plan(plan.sites, everything | first)
    prefix = apply.sequential(model, family, prefix, repair, windows(model), 2, ticks.append)
    check_mean(family, model, small, collect(family, prefix)["layers.1.attention"].mean)


def check_mean(family, model, small, mean):
    consumer, constant = (
        family.block_list(network)[1].get_submodule(family.attention_output)
        for network in (model, small)
    )
    expected = consumer.bias + consumer.weight @ mean
    assert (expected - consumer.bias).abs().max() > 0.01
    torch.testing.assert_close(constant.bias, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("repair", [Bias(order="sequential"), ClosedForm(order="sequential")])
@pytest.mark.parametrize("model_type", TYPES)
def test_front_to_back_repair_passes_emptied_sublayers(model_type, repair):
    family, model = FAMILIES[model_type], dense(model_type, "token")
    plan = plan_without(family, model)
    small = apply.sequential(model, family, plan, repair, windows(model), 2, lambda _: None)
    control = apply.one_shot(model, family, plan, Nothing(), Statistics.of_nothing)
    real = batch(model)[1]
    wanted = answer(family, model)[real]
    errors = [
        (answer(family, network)[real] - wanted).square().mean() for network in (small, control)
    ]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("model_type", TYPES)
def test_calibration_passes_sublayers_that_are_gone(model_type):
    emptied = (*BOTH, "layers.2.attention")
    family, small = FAMILIES[model_type], emptied_encoder(model_type, emptied=emptied).double()
    sites, rows, handles = family.sites(small), {}, []
    real = batch(small)[1]
    for site in sites:
        consumer = family.block_list(small)[site.block].get_submodule(site.consumer)
        handles.append(
            consumer.register_forward_pre_hook(
                lambda _, given, name=site.name: rows.update({name: given[0][real]})
            )
        )
    answer(family, small)
    for handle in handles:
        handle.remove()
    by_block = list(
        calibration_statistics.collect(small, family, windows(small), 2, lambda _: None)
    )
    here = [["layers.0.attention", "layers.0.mlp"], [], ["layers.2.mlp"]]
    assert [list(block_statistics) for block_statistics in by_block] == here
    for name, x in rows.items():
        statistics = next(each[name] for each in by_block if name in each)
        torch.testing.assert_close(statistics.gram.double(), x.T @ x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model_type", TYPES)
def test_an_emptied_model_is_pruned_again(model_type):
    family, small = FAMILIES[model_type], emptied_encoder(model_type).double()
    sites = family.sites(small)
    plan = Plan(sites, {"layers.0.mlp": (3,), "layers.1.attention": ()})
    full = rewrite.masked(small, family, plan)
    smaller = apply.one_shot(small, family, plan, Nothing(), Statistics.of_nothing)
    torch.testing.assert_close(answer(family, smaller), answer(family, full), rtol=0, atol=1e-9)
    assert [site.name for site in family.sites(smaller)] == ["layers.0.mlp"]
    assert [layer.heads for layer in family.encoder(smaller).layers] == [0, 0, 0]


def test_the_dense_encoder_is_left_as_it_was():
    family, model = FAMILIES["distilbert"], tiny_encoder("distilbert")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = answer(family, model)

    def ones(site):
        n = site.inputs
        return Statistics(torch.eye(n), torch.ones(n, dtype=torch.float64), 1)

    apply.one_shot(model, family, plan_without(family, model), Bias(), ones)
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(answer(family, model), expected)


def test_keeping_everything_changes_nothing():
    family, model = FAMILIES["roberta"], tiny_encoder("roberta")
    sites = family.sites(model)
    plan = Plan(sites, {site.name: tuple(range(site.units)) for site in sites})
    text = Windows(np.full((1, 4), 5), np.full(1, 4))
    small = apply.sequential(model, family, plan, Bias(order="sequential"), text, 1, lambda _: None)
    assert torch.equal(answer(family, small), answer(family, model))
