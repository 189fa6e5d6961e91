"""The graph for ONNX Runtime: one GroupQueryAttention node per layer, KV cache updated in place.

Inputs: `input_ids` (batch, sequence) int64; `seqlens_k` (batch,) int32, each row's length after
this call minus one; `total_sequence_length` () int32, the longest of those lengths;
`logits_positions` (batch, k) int64, which of the given tokens get logits;
`past_key_values.{i}.{key,value}` (batch, kv heads, capacity, head width) fp32.
Outputs: `logits` (batch, k, vocabulary) fp32; `present.{i}.{key,value}`, to be bound to the buffers
of the past.

The first call may hold right-padded rows of different lengths. Every later call appends one token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from numprune_export.artifact import Decoder, DecoderLayer
from numprune_exporters import decoder_parts as parts
from numprune_exporters.decoder_parts import CachePair
from numprune_exporters.graph_writer import MICROSOFT, Array, GraphWriter, value

OPSETS = {"": 20, MICROSOFT: 1}

HEAD_MULTIPLE = 16
"""ONNX Runtime's CPU kernel takes only heads whose width is a multiple of this."""


@dataclass(frozen=True)
class _Control:
    """What every attention node reads beside its tensors: lengths and the rotation's tables."""

    seqlens: ir.Value
    total: ir.Value
    cos: ir.Value
    sin: ir.Value


def build(decoder: Decoder, metadata: dict[str, str]) -> ir.Model:
    """The model, its weights still to be read; see the module for inputs and outputs."""
    g = GraphWriter()
    tokens = value("input_ids", ir.DataType.INT64, ("batch", "sequence"))
    seqlens = value("seqlens_k", ir.DataType.INT32, ("batch",))
    total = value("total_sequence_length", ir.DataType.INT32, ())
    positions = value("logits_positions", ir.DataType.INT64, ("batch", "k"))
    pasts = parts.cache_values(decoder, "past_key_values", "capacity", head_width(decoder))
    presents = parts.cache_values(decoder, "present", "capacity", head_width(decoder))

    table = parts.stored(g, "embedding.weight", decoder.embedding)
    control = _Control(seqlens, total, *_rotation(g, decoder))
    caches = list(zip(pasts, presents, strict=True))
    hidden = _blocks(g, decoder, g.op("Gather", table, tokens), positions, control, caches)
    logits = parts.vocabulary_logits(g, decoder, table, hidden, positions)
    return g.model(
        [tokens, seqlens, total, positions, *(one for pair in pasts for one in pair)],
        [logits, *(one for pair in presents for one in pair)],
        name=decoder.name,
        opsets=OPSETS,
        metadata=metadata,
    )


def head_width(decoder: Decoder) -> int:
    """head_dim rounded up to what the kernel takes; the rest of a head is zeros."""
    return -(-decoder.head_dim // HEAD_MULTIPLE) * HEAD_MULTIPLE


def _rotation(g: GraphWriter, decoder: Decoder) -> tuple[ir.Value, ir.Value]:
    """cos and sin tables (max_positions, head width / 2); columns beyond head_dim are unused."""
    shape = (decoder.max_positions, head_width(decoder) // 2)
    scale = np.float32(decoder.rotary_scale)

    def angles() -> Array:
        frequencies = np.zeros(shape[1], np.float32)
        frequencies[: decoder.head_dim // 2] = parts.array(decoder.inverse_frequencies)
        return np.outer(np.arange(shape[0], dtype=np.float32), frequencies)

    return (
        g.weight("rotary.cos", shape, lambda: np.cos(angles()) * scale),
        g.weight("rotary.sin", shape, lambda: np.sin(angles()) * scale),
    )


def _blocks(
    g: GraphWriter,
    decoder: Decoder,
    residual: ir.Value,
    positions: ir.Value,
    control: _Control,
    caches: list[tuple[CachePair, CachePair]],
) -> ir.Value:
    """All layers and the final norm: (batch, k, hidden)."""
    first = parts.stored(g, "input_norm", decoder.layers[0].input_norm)
    x = parts.norm(g, residual, first, decoder.norm_eps)
    following = [layer.input_norm for layer in decoder.layers[1:]] + [decoder.final_norm]
    for index, layer in enumerate(decoder.layers):
        with g.scope(f"layers.{index}"):
            mixed = _attention(g, decoder, layer, x, control, *caches[index])
            if index + 1 == len(decoder.layers):
                # After the last attention no position looks at another one.
                mixed, residual = (parts.select(g, one, positions) for one in (mixed, residual))
            y = parts.linear(g, "attention.output", mixed, layer.output)
            weight = parts.stored(g, "mlp_norm", layer.post_attention_norm)
            x, residual = _add_norm(g, decoder, residual, y, weight)
            y = parts.linear(g, "mlp.down", parts.gated(g, decoder, layer, x), layer.down)
            weight = parts.stored(g, "next_norm", following[index])
            x, residual = _add_norm(g, decoder, residual, y, weight)
    return x


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
    mixed, *updated = g.ops(
        "GroupQueryAttention",
        *_operands(g, decoder, layer, packed),
        *past,
        control.seqlens,
        control.total,
        control.cos,
        control.sin,
        outputs=3,
        domain=MICROSOFT,
        num_heads=layer.query_heads,
        kv_num_heads=layer.kv_heads,
        do_rotary=1,
        scale=decoder.head_dim**-0.5,
        local_window_size=-1 if layer.sliding_window is None else layer.sliding_window,
    )
    for made, port in zip(updated, present, strict=True):
        g.declare(made, port)
    return _narrowed(g, decoder, mixed, layer.query_heads)


def _operands(
    g: GraphWriter, decoder: Decoder, layer: DecoderLayer, packed: ir.Value
) -> tuple[ir.Value, ir.Value | None, ir.Value | None]:
    """The node's query, key and value: packed in the first one unless heads have norms."""
    q, kv = layer.query_heads, layer.kv_heads
    if layer.query_norm is None and layer.key_norm is None:
        if head_width(decoder) == decoder.head_dim:
            return packed, None, None
        return _widened(g, decoder, packed, q + 2 * kv), None, None
    query, key, values = parts.split_heads(g, decoder, layer, packed)
    return (
        _widened(g, decoder, query, q),
        _widened(g, decoder, key, kv),
        _widened(g, decoder, values, kv),
    )


def _widened(g: GraphWriter, decoder: Decoder, x: ir.Value, heads: int) -> ir.Value:
    """Heads side by side, (batch, sequence, heads * head width).

    Zeros go after each half of a head, because the rotation pairs the halves.
    """
    width, half = head_width(decoder), decoder.head_dim // 2
    if width != decoder.head_dim:
        halves = g.op("Reshape", x, g.int64s(0, 0, 2 * heads, half))
        x = g.op("Pad", halves, g.int64s(0, 0, 0, 0, 0, 0, 0, width // 2 - half))
    return g.op("Reshape", x, g.int64s(0, 0, heads * width))


def _narrowed(g: GraphWriter, decoder: Decoder, x: ir.Value, heads: int) -> ir.Value:
    """`_widened` undone."""
    width, half = head_width(decoder), decoder.head_dim // 2
    if width == decoder.head_dim:
        return x
    halves = g.op("Reshape", x, g.int64s(0, 0, 2 * heads, width // 2))
    kept = g.op("Slice", halves, g.int64s(0), g.int64s(half), g.int64s(3))
    return g.op("Reshape", kept, g.int64s(0, 0, heads * decoder.head_dim))


def _add_norm(
    g: GraphWriter, decoder: Decoder, residual: ir.Value, y: ir.Value, weight: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """RMSNorm(residual + y) and residual + y."""
    normed, _, _, total = g.ops(
        "SkipSimplifiedLayerNormalization",
        residual,
        y,
        weight,
        outputs=4,
        domain=MICROSOFT,
        epsilon=decoder.norm_eps,
    )
    return normed, total
