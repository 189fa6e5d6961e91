"""A block that is told what its sublayers put out gives what it gives by itself, in every family."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import MODEL_TYPES, tiny
from tiny_encoder import tiny_encoder

from numprune_export.data.corpus import Windows
from numprune_export.models import block_runner
from numprune_export.models.families import FAMILIES
from numprune_export.models.substitution import SublayerOutput, replayed_outputs

ENCODERS = sorted(set(FAMILIES) - set(MODEL_TYPES))
LENGTHS = {"full": [11] * 5, "padded": [11, 4, 7, 2, 9]}


def made(model_type, lengths):
    model = tiny(model_type) if model_type in MODEL_TYPES else tiny_encoder(model_type, "sequence")
    tokens = np.random.default_rng(0).integers(3, 97, (5, 11))
    text = Windows(tokens, np.asarray(LENGTHS[lengths]))
    family = FAMILIES[model_type]
    sites = [site for site in family.sites(model) if site.block == 1]
    return family.block_list(model)[1], sites, block_runner.prepare_batches(model, family, text, 2)


def known(block, site, batches):
    """A sublayer's outputs, from its consumer's inputs row by row."""
    rows = []
    block_runner.capture_inputs(
        block,
        1,
        batches,
        {site.consumer: lambda seen: rows.append(seen.values)},
        lambda _: None,
        run_on=False,
    )
    consumer = block.get_submodule(site.consumer)
    with torch.no_grad():
        outputs = [
            batch.scatter_tokens(consumer(inputs))
            for batch, inputs in zip(batches, rows, strict=True)
        ]
    return SublayerOutput(site, outputs)


def through(block, batches):
    copies = [replace(original) for original in batches]
    block_runner.advance(block, 1, copies, lambda _: None)
    return [batch.rows(batch.hidden) for batch in copies]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("model_type", [*MODEL_TYPES, *ENCODERS])
@pytest.mark.parametrize("told", ["attention", "mlp", "both"])
def test_the_block_runs_on_as_if_it_had_computed_them(model_type, lengths, told):
    block, sites, batches = made(model_type, lengths)
    whole = through(block, batches)
    answers = [known(block, site, batches) for site in sites if told in (site.kind, "both")]
    parts = dict(block.named_modules())
    with replayed_outputs(block, answers):
        for got, expected in zip(through(block, batches), whole, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert dict(block.named_modules()) == parts


@pytest.mark.parametrize("model_type", [*MODEL_TYPES, *ENCODERS])
def test_what_is_known_is_not_computed(model_type):
    """Otherwise the test above would hold for answers that nobody reads."""
    block, sites, batches = made(model_type, "full")
    whole = through(block, batches)
    answers = [known(block, site, batches) for site in sites]
    with torch.no_grad():
        for site in sites:
            for producer in site.producers:
                block.get_submodule(producer.path).weight.fill_(float("nan"))
    with replayed_outputs(block, answers):
        for got, expected in zip(through(block, batches), whole, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_the_block_is_whole_again_after_a_failure():
    block, sites, batches = made("llama", "full")
    parts = dict(block.named_modules())
    with (
        pytest.raises(RuntimeError, match="stop"),
        replayed_outputs(block, [known(block, sites[0], batches)]),
    ):
        raise RuntimeError("stop")
    assert dict(block.named_modules()) == parts
