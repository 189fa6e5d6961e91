"""Cost of a decoder, counted from its shapes: nothing is timed, no weights are read.

Prefill is compute-bound and decoding is memory-bound. The dense-to-pruned ratio of FLOPs, and of
bytes read per token, is therefore the speed-up of a runtime without overhead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numprune_export.export.decoder import Decoder, DecoderLayer, Projection

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Cost:
    """Totals over the whole model, at one batch size and one length."""

    parameters: int
    """A tied vocabulary projection counts once."""
    weight_bytes: int
    prefill_flops: int
    """Two per multiply-accumulate. Counts all linear layers, causal attention scores and their
    weighted sum, and the vocabulary projection of each sequence's last token."""
    decode_bytes: int
    """Bytes read to decode one token of each sequence: every weight once, one embedding row per
    sequence, the KV cache."""


def cost(
    decoder: Decoder, *, batch: int, prefill_length: int, past_length: int, itemsize: int
) -> Cost:
    """Count the cost of a decoder.

    Args:
        decoder: Only its shapes are read.
        batch: Sequences processed together.
        prefill_length: Tokens per sequence in the prefill.
        past_length: Tokens in the KV cache when the next token is decoded.
        itemsize: Bytes per exported number, for weights and KV cache.
    """
    blocks = sum(_parameters(layer) for layer in decoder.layers) + decoder.final_norm.numel()
    head, embedding = _size(decoder.head), decoder.embedding.numel()
    if decoder.tied:
        bias = 0 if decoder.head.bias is None else decoder.head.bias.numel()
        parameters = blocks + embedding + bias
    else:
        parameters = blocks + embedding + head
    row_flops = sum(_layer_flops(decoder, layer, prefill_length) for layer in decoder.layers)
    cached = sum(_cached(decoder, layer, past_length) for layer in decoder.layers)
    return Cost(
        parameters=parameters,
        weight_bytes=parameters * itemsize,
        prefill_flops=batch * (row_flops + 2 * decoder.head.weight.numel()),
        decode_bytes=itemsize * (blocks + head + batch * (decoder.hidden + cached)),
    )


def ideal_speedups(dense: Cost, pruned: Cost) -> dict[str, float]:
    """Upper bounds of the speed-up: `prefill` from FLOPs, `decode` from bytes."""
    return {
        "prefill": dense.prefill_flops / pruned.prefill_flops,
        "decode": dense.decode_bytes / pruned.decode_bytes,
    }


def _layer_flops(decoder: Decoder, layer: DecoderLayer, length: int) -> int:
    linear = sum(projection.weight.numel() for projection in _projections(layer))
    window = layer.sliding_window or length
    visible = sum(min(position, window) for position in range(1, length + 1))
    scores = 2 * layer.query_heads * decoder.head_dim * visible  # q·k, and weights·v
    return 2 * (length * linear + scores)


def _cached(decoder: Decoder, layer: DecoderLayer, past: int) -> int:
    """Elements of the KV cache that one new token reads."""
    return 2 * layer.kv_heads * decoder.head_dim * min(past, layer.sliding_window or past)


def _parameters(layer: DecoderLayer) -> int:
    norms: Iterator[Tensor | None] = iter(
        (layer.input_norm, layer.post_attention_norm, layer.query_norm, layer.key_norm)
    )
    return sum(_size(projection) for projection in _projections(layer)) + sum(
        norm.numel() for norm in norms if norm is not None
    )


def _projections(layer: DecoderLayer) -> tuple[Projection, ...]:
    return (
        layer.query, layer.key, layer.value, layer.output, layer.gate, layer.up, layer.down
    )  # fmt: skip


def _size(projection: Projection) -> int:
    bias = projection.bias
    return int(projection.weight.numel()) + (0 if bias is None else int(bias.numel()))
