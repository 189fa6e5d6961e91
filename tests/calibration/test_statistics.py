"""Calibration: block streaming sees what a plain forward pass sees, and padding never counts."""

import numpy as np
import pytest
import torch
from tiny import MODEL_TYPES, tiny
from torch.overrides import TorchFunctionMode

from numprune_export.calibration import statistics as calibration_statistics
from numprune_export.calibration import token_stride
from numprune_export.core.errors import NumericalError
from numprune_export.data.corpus import Windows
from numprune_export.models import block_runner
from numprune_export.models.families import FAMILIES
from numprune_export.numerics.indexing import columns_of_units
from numprune_export.pruning import apply
from numprune_export.pruning.allocate.threshold import Allocation, allocate
from numprune_export.pruning.compensate.closed_form import ClosedForm, ProducerRefit
from numprune_export.pruning.compensate.none import Nothing
from numprune_export.pruning.plan import Plan
from numprune_export.pruning.score.magnitude import Magnitude


def windows(sequences=5, length=12, seed=0, lengths=None):
    tokens = np.random.default_rng(seed).integers(3, 97, (sequences, length))
    full = np.full(sequences, length)
    return Windows(tokens, full if lengths is None else np.asarray(lengths))


def collect(model, family, text, batch=2):
    by_site = {}
    for block in calibration_statistics.collect(model, family, text, batch, lambda _: None):
        by_site |= block
    return by_site


def direct(model, site, text):
    """Inputs of a site's consumer from plain per-sequence forward calls, (tokens, n)."""
    rows = []
    consumer = model.model.layers[site.block].get_submodule(site.consumer)
    handle = consumer.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0][0]))
    with torch.no_grad():
        for tokens, length in zip(text.tokens, text.lengths, strict=True):
            model(torch.from_numpy(tokens[None, :length]))
    handle.remove()
    return torch.cat(rows).double()


SLIDING = {
    "mistral": {"sliding_window": 4},
    "qwen2": {
        "sliding_window": 4,
        "use_sliding_window": True,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    },
}


@pytest.mark.parametrize("lengths", [None, [12, 3, 7, 1, 12]], ids=["full", "padded"])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_statistics_are_those_of_plain_forward_passes(model_type, lengths):
    model = tiny(model_type, **SLIDING.get(model_type, {}))
    family, text = FAMILIES[model_type], windows(lengths=lengths)
    by_site = collect(model, family, text)
    for site in family.sites(model):
        x = direct(model, site, text)
        statistics = by_site[site.name]
        assert statistics.tokens == len(x) == text.lengths.sum()
        scale = float((x.T @ x).abs().max())
        torch.testing.assert_close(statistics.gram.double(), x.T @ x, rtol=1e-4, atol=1e-5 * scale)
        torch.testing.assert_close(statistics.mean, x.mean(0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            statistics.variance, x.var(0, correction=0), rtol=1e-3, atol=1e-4
        )


def test_batches_do_not_matter():
    model, family = tiny(), FAMILIES["llama"]
    single, five = (collect(model, family, windows(), batch=n) for n in (1, 5))
    for name in single:
        torch.testing.assert_close(single[name].gram, five[name].gram, rtol=1e-4, atol=1e-3)


def test_moments_may_be_those_of_one_token_in_so_many():
    model, family, text = tiny(), FAMILIES["llama"], windows(sequences=4)
    by_site = {}
    for block in calibration_statistics.collect(
        model, family, text, 2, lambda _: None, token_stride=3
    ):
        by_site |= block
    for site in family.sites(model):
        x = direct(model, site, text)[::3]  # a batch has 24 tokens
        statistics = by_site[site.name]
        assert statistics.tokens == len(x) == 16
        torch.testing.assert_close(statistics.gram.double(), x.T @ x, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(statistics.mean, x.mean(0), rtol=1e-4, atol=1e-5)


def test_the_model_is_whole_again_after_calibration():
    model, family = tiny(), FAMILIES["llama"]
    tokens = torch.randint(0, 97, (1, 9))
    before = model(tokens).logits
    collect(model, family, windows())
    assert torch.equal(model(tokens).logits, before)
    assert not model.model.layers[0].mlp.down_proj._forward_pre_hooks


def test_the_model_is_whole_again_after_a_failure_inside_a_block(monkeypatch):
    model, family = tiny(), FAMILIES["llama"]
    batches = block_runner.prepare_batches(model, family, windows(), 2)

    def fail(_rows):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        block_runner.capture_inputs(
            family.block_list(model)[0],
            0,
            batches,
            {"mlp.down_proj": fail},
            lambda _: None,
            run_on=True,
        )
    assert not model.model.layers[0].mlp.down_proj._forward_pre_hooks
    assert len(family.block_list(model)) == 3


def test_nan_in_activations_names_the_site():
    model, family = tiny(), FAMILIES["llama"]
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(NumericalError, match=r"layers\.1\.mlp"):
        collect(model, family, windows())


def test_progress_counts_every_sequence_through_every_block():
    model, family, seen = tiny(), FAMILIES["llama"], []
    list(calibration_statistics.collect(model, family, windows(), 2, seen.append))
    assert sum(seen) == 3 * 5


def plan_for(model, family, text, keep=0.6):
    scores = {}
    statistics = collect(model, family, text)
    for site in family.sites(model):
        weight = family.block_list(model)[site.block].get_submodule(site.consumer).weight.detach()
        scores[site.name] = Magnitude()(weight, statistics[site.name], keep=keep, generator=None)
    return allocate(family.sites(model), scores, keep, Allocation(align_to=1)), statistics


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("lengths", [None, [12, 3, 7, 2, 12]], ids=["full", "padded"])
def test_sequential_compensation_refits_on_the_pruned_prefix(model_type, lengths):
    """Each refitted consumer is the ridge solution on the inputs its own pruned prefix gives it."""
    model, family = tiny(model_type), FAMILIES[model_type]
    text, repair = windows(lengths=lengths), ClosedForm()
    plan, _ = plan_for(model, family, text)
    small = apply.sequential(model, family, plan, repair, text, 2, lambda _: None)

    for site in plan.sites[2:4]:  # the second block: its input comes through a pruned first block
        dense_inside = apply.rewrite.clone_sharing_parameters(small)
        block = family.block_list(dense_inside)[site.block]
        original = family.block_list(model)[site.block]
        for producer in site.producers:
            block.set_submodule(producer.path, original.get_submodule(producer.path))
        block.set_submodule(site.consumer, original.get_submodule(site.consumer))
        apply.rewrite.set_attributes(block, family.attributes(block))
        x = direct(dense_inside, site, text)
        columns = columns_of_units(plan.kept[site.name], site.consumer_width)
        statistics = calibration_statistics.Statistics(x.T @ x, x.sum(0), len(x))
        expected, _ = repair(
            original.get_submodule(site.consumer).weight, None, statistics, columns
        )
        got = family.block_list(small)[site.block].get_submodule(site.consumer).weight
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


ALONE = ClosedForm(producers=ProducerRefit(least=1, spared_token_stride=3))
"""No producers are refitted where not all units go."""


@pytest.mark.parametrize(
    ("kind", "repair", "every"),
    [
        ("attention", ClosedForm(token_stride=3), 3),
        ("mlp", ClosedForm(token_stride=3), 3),
        ("attention", ALONE, 1),
        ("mlp", ALONE, 3),
    ],
)
def test_a_consumer_may_be_fitted_to_one_token_in_so_many(kind, repair, every, monkeypatch):
    monkeypatch.setattr(token_stride, "PER_INPUT", 0.1)  # there are few tokens
    model, family, text = tiny(), FAMILIES["llama"], windows(sequences=4)
    sites = family.sites(model)
    site = next(sublayer for sublayer in sites if sublayer.block == 0 and sublayer.kind == kind)
    kept = {sublayer.name: tuple(range(sublayer.units)) for sublayer in sites}
    kept[site.name] = tuple(range(site.units // 2))
    small = apply.sequential(model, family, Plan(sites, kept), repair, text, 2, lambda _: None)
    x = direct(model, site, text)[::every]
    statistics = calibration_statistics.Statistics((x.T @ x).float(), x.sum(0), len(x))
    columns = columns_of_units(site.layout(kept[site.name]), site.consumer_width)
    whole = family.block_list(model)[0].get_submodule(site.consumer).weight
    expected, _ = ClosedForm()(whole, None, statistics, columns)
    got = family.block_list(small)[0].get_submodule(site.consumer).weight
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


class Attended(TorchFunctionMode):
    """Counts attention."""

    calls = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.calls += func is torch.nn.functional.scaled_dot_product_attention
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "producers", [None, ProducerRefit(token_stride=1)], ids=["consumer", "all"]
)
def test_attention_that_loses_nothing_is_computed_once(producers):
    model, family, text = tiny(), FAMILIES["llama"], windows(sequences=4)
    model.set_attn_implementation("sdpa")
    sites = family.sites(model)
    kept = {
        site.name: tuple(range(site.units // 2 if site.kind == "mlp" else site.units))
        for site in sites
    }
    repair = ClosedForm(producers=producers)
    with Attended() as attended:
        apply.sequential(model, family, Plan(sites, kept), repair, text, 2, lambda _: None)
    assert attended.calls == 2 * len(family.block_list(model))


def test_compensation_brings_the_pruned_model_nearer_to_the_dense_one():
    model, family, text = tiny(), FAMILIES["llama"], windows(sequences=24, length=24)
    plan, statistics = plan_for(model, family, text, keep=0.7)
    tokens = torch.from_numpy(text.tokens)

    def distance(small):
        with torch.no_grad():
            return (small(tokens).logits - model(tokens).logits).square().mean().item()

    def lookup(site):
        return statistics[site.name]

    bare = distance(apply.one_shot(model, family, plan, Nothing(), lookup))
    once = distance(apply.one_shot(model, family, plan, ClosedForm(), lookup))
    walked = distance(apply.sequential(model, family, plan, ClosedForm(), text, 4, lambda _: None))
    assert once < bare
    assert walked < bare
