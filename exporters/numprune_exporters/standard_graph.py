"""The graph for every other runtime: standard operators only, KV cache grown by Concat.

Inputs: `input_ids` (batch, sequence) int64; `attention_mask` (batch, total) int64, 1 for real
tokens, past ones included; `position_ids` (batch, sequence) int64; `logits_positions` (batch, k)
int64, which of the given tokens get logits; `past_key_values.{i}.{key,value}`
(batch, kv heads, past, head_dim) fp32, past = total - sequence.
Outputs: `logits` (batch, k, vocabulary) fp32; `present.{i}.{key,value}`
(batch, kv heads, total, head_dim), the next call's past.

Padding may be on either side: masked slots stay in the cache and are never read. Query heads are
grouped over their KV head, which is never repeated.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from numprune_export.artifact import Decoder, DecoderLayer
from numprune_exporters import decoder_parts as parts
from numprune_exporters.decoder_parts import CachePair
from numprune_exporters.graph_writer import GraphWriter, value
from numprune_exporters.standard_mask import MaskWriter

OPSETS = {"": 20}


@dataclass(frozen=True)
class _Control:
    """What every attention reads beside its tensors."""

    masks: MaskWriter
    cos: ir.Value
    sin: ir.Value


def build(decoder: Decoder, metadata: dict[str, str]) -> ir.Model:
    """The model, its weights still to be read; see the module for inputs and outputs."""
    g = GraphWriter()
    tokens = value("input_ids", ir.DataType.INT64, ("batch", "sequence"))
    mask = value("attention_mask", ir.DataType.INT64, ("batch", "total"))
    places = value("position_ids", ir.DataType.INT64, ("batch", "sequence"))
    positions = value("logits_positions", ir.DataType.INT64, ("batch", "k"))
    pasts = parts.cache_values(decoder, "past_key_values", "past", decoder.head_dim)
    presents = parts.cache_values(decoder, "present", "total", decoder.head_dim)

    table = parts.stored(g, "embedding.weight", decoder.embedding)
    masks = MaskWriter(g, tokens, mask, places)
    control = _Control(masks, *_rotation(g, decoder, places))
    caches = list(zip(pasts, presents, strict=True))
    hidden = _blocks(g, decoder, g.op("Gather", table, tokens), positions, control, caches)
    logits = parts.vocabulary_logits(g, decoder, table, hidden, positions)
    return g.model(
        [tokens, mask, places, positions, *(one for pair in pasts for one in pair)],
        [logits, *(one for pair in presents for one in pair)],
        name=decoder.name,
        opsets=OPSETS,
        metadata=metadata,
    )


def _rotation(g: GraphWriter, decoder: Decoder, places: ir.Value) -> tuple[ir.Value, ir.Value]:
    """cos and sin at each token, (batch, sequence, 1, head_dim / 2)."""
    with g.scope("rotary"):
        frequencies = parts.stored(g, "inverse_frequencies", decoder.inverse_frequencies)
        column = g.op("Unsqueeze", g.op("Cast", places, to=int(ir.DataType.FLOAT)), g.int64s(2, 3))
        angles = g.op("Mul", column, frequencies)
        scale = g.float32(decoder.rotary_scale)
        return g.op("Mul", g.op("Cos", angles), scale), g.op("Mul", g.op("Sin", angles), scale)


def _blocks(
    g: GraphWriter,
    decoder: Decoder,
    residual: ir.Value,
    positions: ir.Value,
    control: _Control,
    caches: list[tuple[CachePair, CachePair]],
) -> ir.Value:
    """All layers and the final norm: (batch, k, hidden)."""
    for index, layer in enumerate(decoder.layers):
        with g.scope(f"layers.{index}"):
            weight = parts.stored(g, "attention_norm", layer.input_norm)
            x = parts.norm(g, residual, weight, decoder.norm_eps)
            mixed = _attention(g, decoder, layer, x, control, *caches[index])
            if index + 1 == len(decoder.layers):
                # After the last attention no position looks at another one.
                mixed, residual = (parts.select(g, one, positions) for one in (mixed, residual))
            y = parts.linear(g, "attention.output", mixed, layer.output)
            residual = g.op("Add", residual, y)
            weight = parts.stored(g, "mlp_norm", layer.post_attention_norm)
            x = parts.norm(g, residual, weight, decoder.norm_eps)
            y = parts.linear(g, "mlp.down", parts.gated(g, decoder, layer, x), layer.down)
            residual = g.op("Add", residual, y)
    final = parts.stored(g, "final_norm", decoder.final_norm)
    return parts.norm(g, residual, final, decoder.norm_eps)


def _attention(
    g: GraphWriter,
    decoder: Decoder,
    layer: DecoderLayer,
    x: ir.Value,
    control: _Control,
    past: CachePair,
    present: CachePair,
) -> ir.Value:
    packed = parts.linear(g, "attention.qkv", x, layer.query, layer.key, layer.value)
    query, key, values = parts.split_heads(g, decoder, layer, packed)
    query = g.op("Mul", query, g.float32(decoder.head_dim**-0.5))
    query, key = _rotated(g, decoder, query, control), _rotated(g, decoder, key, control)
    keys, values = (
        g.declare(g.op("Concat", old, g.op("Transpose", new, perm=(0, 2, 1, 3)), axis=2), port)
        for old, new, port in zip(past, (key, values), present, strict=True)
    )
    return _grouped(g, decoder, layer, query, keys, values, control)


def _rotated(g: GraphWriter, decoder: Decoder, x: ir.Value, control: _Control) -> ir.Value:
    """First half of each head against its second half; x is (batch, sequence, heads, head_dim)."""
    half = decoder.head_dim // 2
    a, b = g.ops("Split", x, g.int64s(half, half), outputs=2, axis=-1)
    first = g.op("Sub", g.op("Mul", a, control.cos), g.op("Mul", b, control.sin))
    second = g.op("Add", g.op("Mul", b, control.cos), g.op("Mul", a, control.sin))
    return g.op("Concat", first, second, axis=-1)


def _grouped(
    g: GraphWriter,
    decoder: Decoder,
    layer: DecoderLayer,
    query: ir.Value,
    keys: ir.Value,
    values: ir.Value,
    control: _Control,
) -> ir.Value:
    """softmax(q kᵀ + mask) v with the queries of one KV head stacked as rows of one matrix."""
    kv, dim = layer.kv_heads, decoder.head_dim
    group = layer.query_heads // kv
    query = g.op("Reshape", query, g.int64s(0, 0, kv, group, dim))
    query = g.op("Transpose", query, perm=(0, 2, 3, 1, 4))
    stacked = g.op("Reshape", query, g.int64s(0, kv, -1, dim))
    scores = g.op("MatMul", stacked, g.op("Transpose", keys, perm=(0, 1, 3, 2)))
    apart = g.op("Reshape", scores, control.masks.score_shape(kv, group))
    masked = g.op("Add", apart, control.masks.additive(layer.sliding_window))
    weights = g.op("Softmax", masked, axis=-1)
    rows = g.op("Reshape", weights, control.masks.row_shape(kv))
    mixed = g.op("MatMul", rows, values)
    mixed = g.op("Reshape", mixed, g.int64s(0, kv, group, -1, dim))
    mixed = g.op("Transpose", mixed, perm=(0, 3, 1, 2, 4))
    return g.op("Reshape", mixed, g.int64s(0, 0, layer.query_heads * dim))
