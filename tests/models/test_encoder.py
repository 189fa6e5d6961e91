"""The declarations of encoder families: their tensors, put together by hand, are the model."""

import math

import pytest
import torch
from tiny_encoder import FAMILIES, TASKS, tiny_encoder, uneven_encoder
from torch.nn import functional
from transformers.activations import ACT2FN

from numprune_export.calibration import statistics as calibration_statistics
from numprune_export.data.corpus import Windows
from numprune_export.models import block_runner

TYPES = sorted(FAMILIES)
LENGTHS = torch.tensor([9, 4, 7])


def inputs(model):
    tokens = torch.randint(3, 101, (3, 9), generator=torch.Generator().manual_seed(0))
    real = torch.arange(9) < LENGTHS[:, None]
    tokens = torch.where(real, tokens, model.config.pad_token_id)
    token_types = getattr(model.config, "type_vocab_size", 2)
    types = (torch.arange(9) > 4).long().expand(3, 9) * (token_types > 1)
    return tokens, real, types


def hugging_face(model, tokens, real, types):
    named = FAMILIES[model.config.model_type].inputs(tokens, real, types)
    with torch.no_grad():
        answer = model(**named)
    if hasattr(answer, "start_logits"):
        return torch.stack([answer.start_logits, answer.end_logits], -1)
    return answer.logits


def linear(projection, x):
    return functional.linear(x, projection.weight, projection.bias)


def norm(layer, x):
    return functional.layer_norm(x, x.shape[-1:], layer.weight, layer.bias, layer.eps)


@torch.no_grad()
def by_hand(encoder, tokens, real, types):
    """The forward pass that the contract promises an exporter."""
    positions = encoder.first_position + torch.arange(tokens.shape[1])
    x = encoder.embedding[tokens] + encoder.position_embedding[positions]
    if encoder.type_embedding is not None:
        x = x + encoder.type_embedding[types]
    x = norm(encoder.embedding_norm, x)
    seen = torch.where(real, 0.0, -1e9)[:, None, None]
    for layer in encoder.layers:
        x = norm(layer.attention_norm, x + attention(encoder, layer, x, seen))
        inner = ACT2FN[encoder.activation](linear(layer.up, x))
        x = norm(layer.mlp_norm, x + linear(layer.down, inner))
    head = encoder.head
    x = x[:, 0] if head.task == "sequence" else x
    if head.dense is not None:
        x = getattr(torch, head.activation)(linear(head.dense, x))
    return linear(head.classifier, x)


def attention(encoder, layer, x, seen):
    split = (
        linear(projection, x).unflatten(-1, (layer.heads, encoder.head_dim)).transpose(1, 2)
        for projection in (layer.query, layer.key, layer.value)
    )
    q, k, v = split
    weights = (q @ k.mT / math.sqrt(encoder.head_dim) + seen).softmax(-1)
    return linear(layer.output, (weights @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("make", [tiny_encoder, uneven_encoder])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model_type", TYPES)
def test_the_tensors_put_together_by_hand_are_the_model(model_type, task, make):
    model = make(model_type, task)
    tokens, real, types = inputs(model)
    encoder = FAMILIES[model_type].encoder(model)
    expected, got = hugging_face(model, tokens, real, types), by_hand(encoder, tokens, real, types)
    if task != "sequence":
        expected, got = expected[real], got[real]
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-5)
    assert encoder.classes == expected.shape[-1]


@pytest.mark.parametrize("model_type", TYPES)
def test_sites_own_every_row_and_column_that_a_unit_takes_along(model_type):
    family, model = FAMILIES[model_type], tiny_encoder(model_type)
    sites = family.sites(model)
    assert [sublayer.name for sublayer in sites[:2]] == ["layers.0.attention", "layers.0.mlp"]
    assert [sublayer.units for sublayer in sites] == [4, 48] * 3
    head, neuron = sites[0], sites[1]
    assert head.unit_cost == 3 * 8 * (32 + 1) + 8 * 32
    assert neuron.unit_cost == (32 + 1) + 32
    assert all(sublayer.may_be_empty for sublayer in sites)
    block = family.block_list(model)[0]
    for site in (head, neuron):
        width = site.inputs
        assert block.get_submodule(site.consumer).in_features == width
        assert all(
            block.get_submodule(producer.path).out_features == site.units * producer.width
            for producer in site.producers
        )


@pytest.mark.parametrize("model_type", TYPES)
def test_attributes_follow_the_widths(model_type):
    family, model = FAMILIES[model_type], uneven_encoder(model_type)
    for block in family.block_list(model):
        for path, value in family.attributes(block).items():
            owner, _, name = path.rpartition(".")
            assert getattr(block.get_submodule(owner), name) == value, path


@pytest.mark.parametrize("model_type", TYPES)
def test_calibration_streams_the_same_hidden_states_as_the_model_and_skips_padding(model_type):
    family, model = FAMILIES[model_type], tiny_encoder(model_type)
    tokens, real, types = inputs(model)
    kept, handles = {}, []
    for site in family.sites(model):
        consumer = family.block_list(model)[site.block].get_submodule(site.consumer)
        handles.append(
            consumer.register_forward_pre_hook(
                lambda _, given, name=site.name: kept.update({name: given[0][real].double()})
            )
        )
    hugging_face(model, tokens, real, types)
    for handle in handles:
        handle.remove()
    windows = Windows(tokens.numpy(), LENGTHS.numpy(), types.numpy())
    by_site = {}
    for block_statistics in calibration_statistics.collect(
        model, family, windows, 2, lambda _: None
    ):
        by_site |= block_statistics
    assert by_site.keys() == kept.keys()
    for name, rows in kept.items():
        assert by_site[name].tokens == int(LENGTHS.sum())
        torch.testing.assert_close(by_site[name].gram.double(), rows.T @ rows, rtol=1e-4, atol=1e-3)


def test_the_last_hidden_states_of_the_stream_are_the_models():
    family, model = FAMILIES["bert"], tiny_encoder("bert")
    tokens, real, types = inputs(model)
    windows = Windows(tokens.numpy(), LENGTHS.numpy(), types.numpy())
    batches = block_runner.prepare_batches(model, family, windows, 2)
    for index, block in enumerate(family.block_list(model)):
        block_runner.advance(block, index, batches, lambda _: None)
    with torch.no_grad():
        expected = model.bert(**family.inputs(tokens, real, types)).last_hidden_state
    seen = []
    for rows, batch in zip(windows.by_length(2), batches, strict=True):
        width = int(LENGTHS[rows].max())
        assert batch.hidden.shape[:2] == (len(rows), width)  # no wider than its own longest text
        own = real[rows, :width]
        torch.testing.assert_close(
            batch.hidden[own], expected[rows, :width][own], rtol=0, atol=1e-5
        )
        seen += rows.tolist()
    assert sorted(seen) == [0, 1, 2]
