"""Encoder costs against counts made without our arithmetic: torch's flop counter, tensor sizes."""

import pytest
import torch
from tiny_encoder import FAMILIES, TASKS, tiny_encoder, uneven_encoder
from torch.utils.flop_counter import FlopCounterMode

from numprune_export.measure.cost.encoder import encoder_cost, ideal_speedup


def cost_of(model, batch=2, length=16, itemsize=4):
    encoder = FAMILIES[model.config.model_type].encoder(model)
    return encoder_cost(encoder, batch=batch, length=length, itemsize=itemsize)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model_type", sorted(FAMILIES))
@pytest.mark.parametrize(("batch", "length"), [(1, 16), (3, 5)])
def test_macs_are_half_the_flops_that_torch_counts(model_type, task, batch, length):
    model = uneven_encoder(model_type, task)
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.full((batch, length), 7))
    assert 2 * cost_of(model, batch, length).macs == counter.get_total_flops()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_parameters_are_the_models_own_and_stand_apart(model_type, task):
    model = uneven_encoder(model_type, task)
    cost = cost_of(model, itemsize=2)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    assert cost.parameters == sum(sizes.values())
    assert cost.parameter_bytes == 2 * cost.parameters
    embedding = sum(size for name, size in sizes.items() if ".embeddings." in name)
    layers = sum(size for name, size in sizes.items() if ".layer." in name)
    assert (cost.embedding_parameters, cost.layer_parameters) == (embedding, layers)
    assert cost.head_parameters == cost.parameters - embedding - layers


def test_a_forward_pass_reads_the_weights_once_and_rows_of_the_embeddings():
    cost = cost_of(uneven_encoder("bert"), batch=3, length=5)
    rows = 3 * 5 * 3 * 32  # texts, tokens, tables, hidden
    assert cost.bytes_read == 4 * (cost.layer_parameters + cost.head_parameters + rows)


def test_attention_grows_with_the_square_of_the_length():
    model = tiny_encoder("bert", "token")
    short, long = cost_of(model, length=16), cost_of(model, length=32)
    # layers, texts, q·k and weights·v, width of all heads
    assert long.layer_macs - 2 * short.layer_macs == 3 * 2 * 2 * 32 * (32 * 32 - 2 * 16 * 16)


def test_ideal_speedup_is_dense_over_pruned():
    dense, pruned = cost_of(tiny_encoder()), cost_of(uneven_encoder())
    assert ideal_speedup(dense, pruned) == dense.macs / pruned.macs > 1
