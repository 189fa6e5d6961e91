"""Costs against counts made without our arithmetic: torch's flop counter and tensor sizes."""

import pytest
import torch
from tiny import MODEL_TYPES, tiny, uneven
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

from numprune_export.measure.cost.decoder import cost, ideal_speedups
from numprune_export.models.families import FAMILIES
from numprune_export.models.kv_cache import cache_argument

SHAPE = {"batch": 1, "prefill_length": 16, "past_length": 16, "itemsize": 4}


def cost_of(model, **overrides):
    return cost(FAMILIES[model.config.model_type].decoder(model), **(SHAPE | overrides))


def counted_flops(model, batch: int, length: int) -> tuple[int, int]:
    """Linear layers and attention (all length x length scores), from the operators that ran."""
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.ones(batch, length, dtype=torch.int64), use_cache=False, logits_to_keep=1)
    by_operator = counter.get_flop_counts()["Global"]
    attention = by_operator.pop(torch.ops.aten.bmm)
    return sum(by_operator.values()), attention


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("batch", [1, 3])
def test_prefill_flops_are_those_torch_counts_with_causal_attention(model_type, batch):
    model, length = uneven(model_type), 16
    linear, attention = counted_flops(model, batch, length)
    causal = attention * (length + 1) // (2 * length)
    costs = cost_of(model, batch=batch, prefill_length=length)
    assert costs.prefill_flops == linear + causal


def test_a_sliding_window_bounds_scores_and_cache():
    full, windowed = tiny("mistral", sliding_window=None), tiny("mistral", sliding_window=5)
    pairs = sum(min(position + 1, 5) for position in range(16)) - 16 * 17 // 2
    more = cost_of(windowed).prefill_flops - cost_of(full).prefill_flops
    assert more == 3 * 2 * 2 * 8 * 8 * pairs  # layers, q·k and weights·v, MAC, heads, head_dim
    kept = cost_of(windowed).decode_bytes - cost_of(full).decode_bytes
    assert kept == 3 * 2 * 4 * 8 * (5 - 16) * 4  # layers, k and v, heads, head_dim, tokens, bytes


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("tied", [False, True])
def test_parameters_are_the_models_own(model_type, tied):
    model = uneven(model_type, tie_word_embeddings=tied)
    costs = cost_of(model, itemsize=2)
    assert costs.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert costs.weight_bytes == 2 * costs.parameters


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_decode_reads_all_weights_one_embedding_row_each_and_the_cache(tied, batch):
    model = uneven(tie_word_embeddings=tied)
    weights = sum(
        parameter.numel() for name, parameter in model.named_parameters() if "embed" not in name
    )
    if tied:
        weights += model.lm_head.weight.numel()
    with torch.no_grad():
        past = DynamicCache(config=model.config)
        model(torch.ones(batch, 16, dtype=torch.int64), **{cache_argument(model): past})
    cache = sum(layer.keys.numel() + layer.values.numel() for layer in past.layers)
    costs = cost_of(model, batch=batch, past_length=16)
    assert costs.decode_bytes == 4 * (weights + batch * 64 + cache)


def test_ideal_speedups_are_dense_over_pruned():
    dense, pruned = cost_of(tiny()), cost_of(uneven())
    ideal = ideal_speedups(dense, pruned)
    assert ideal["prefill"] == pytest.approx(dense.prefill_flops / pruned.prefill_flops)
    assert ideal["decode"] == pytest.approx(dense.decode_bytes / pruned.decode_bytes)
    assert min(ideal.values()) > 1
