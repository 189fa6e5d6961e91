"""Graph for ONNX Runtime: one GroupQueryAttention node per layer, KV cache updated in place.

Inputs: `input_ids` (batch, sequence) int64; `seqlens_k` (batch,) int32, each row's length after
this call minus one; `total_sequence_length` () int32, the longest of those lengths;
`logits_positions` (batch, k) int64, the input tokens whose logits are returned;
`past_key_values.{i}.{key,value}` (batch, kv heads, capacity, head width) of the graph's dtype.
Outputs: `logits` (batch, k, vocabulary) fp32; `present.{i}.{key,value}`, to be bound to the buffers
of the past.

If the KV heads of a layer serve different numbers of query heads, each run of equal KV heads has
its own node and its own caches: `past_key_values.{i}.{run}.{key,value}`.

The first call may hold right-padded rows of different lengths. Every later call appends one token.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from numprune_export.export.decoder import Decoder, DecoderLayer
from numprune_exporters.graphs.decoder import frame as decoder_frame
from numprune_exporters.graphs.decoder import parts, query_groups
from numprune_exporters.graphs.writer import MICROSOFT, Array, GraphWriter, value

if TYPE_CHECKING:
    from torch import Tensor

OPSETS = {"": 20, MICROSOFT: 1}

HEAD_MULTIPLE = 16
"""ONNX Runtime's CPU kernel requires a head width that is a multiple of this."""


def build(decoder: Decoder, metadata: dict[str, str], dtype: str = "float32") -> ir.Model:
    """The model with unread weights; inputs and outputs: see the module docstring."""
    g = GraphWriter(dtype)
    tokens = value("input_ids", ir.DataType.INT64, ("batch", "sequence"))
    attention = _FusedAttention(g, decoder)
    return decoder_frame.write(g, decoder, tokens, attention, opsets=OPSETS, metadata=metadata)


class _FusedAttention:
    """One node per run of a layer: rotation, cache update, causal or windowed softmax, mixing."""

    def __init__(self, g: GraphWriter, decoder: Decoder) -> None:
        self._g, self._decoder = g, decoder
        seqlens = value("seqlens_k", ir.DataType.INT32, ("batch",))
        total = value("total_sequence_length", ir.DataType.INT32, ())
        self._lengths = (seqlens, total)
        self._pasts = list(_caches(g, decoder, "past_key_values"))
        self._presents = list(_caches(g, decoder, "present"))
        self.inputs = (*self._lengths, *parts.flat([*chain.from_iterable(self._pasts)]))
        self._rotation = _rotation(g, decoder)

    def norm(self, name: str, x: ir.Value, weight: Tensor) -> ir.Value:
        """See Flavour.norm."""
        return parts.norm(self._g, name, x, weight, self._decoder.norm_eps)

    def outputs(self) -> list[ir.Value]:
        """See Flavour.outputs."""
        return parts.flat([*chain.from_iterable(self._presents)])

    def mix(self, index: int, layer: DecoderLayer, x: ir.Value) -> ir.Value:
        """See Flavour.mix."""
        g, dim = self._g, self._decoder.head_dim
        runs = query_groups.single_runs(layer, dim)
        widths = [(run.query_heads + 2 * run.kv_heads) * dim for run in runs]
        packed = query_groups.split(g, parts.query_key_value(g, x, *runs), widths, axis=-1)
        ports = zip(packed, self._pasts[index], self._presents[index], strict=True)
        mixed = []
        for number, (run, run_ports) in enumerate(zip(runs, ports, strict=True)):
            with g.scope(f"runs.{number}") if len(runs) > 1 else nullcontext():
                mixed.append(self._attended(run, *run_ports))
        return query_groups.joined(g, mixed)

    def _attended(
        self,
        layer: DecoderLayer,
        packed: ir.Value,
        past: parts.CachePair,
        present: parts.CachePair,
    ) -> ir.Value:
        """Attention of packed q, k, v, equal groups: (batch, sequence, query heads * head_dim)."""
        mixed, *updated = self._g.ops(
            "GroupQueryAttention",
            *self._operands(layer, packed),
            *past,
            *self._lengths,
            *self._rotation,
            outputs=3,
            domain=MICROSOFT,
            num_heads=layer.query_heads,
            kv_num_heads=layer.kv_heads,
            do_rotary=1,
            scale=self._decoder.head_dim**-0.5,
            local_window_size=-1 if layer.sliding_window is None else layer.sliding_window,
        )
        for cache, port in zip(updated, present, strict=True):
            self._g.declare(cache, port)
        return _narrowed(self._g, self._decoder, mixed, layer.query_heads)

    def _operands(
        self, layer: DecoderLayer, packed: ir.Value
    ) -> tuple[ir.Value, ir.Value | None, ir.Value | None]:
        """The node's query, key and value; packed into the query unless heads have norms."""
        g, decoder, q, kv = self._g, self._decoder, layer.query_heads, layer.kv_heads
        if layer.query_norm is None and layer.key_norm is None:
            if head_width(decoder) == decoder.head_dim:
                return packed, None, None
            return _widened(g, decoder, packed, q + 2 * kv), None, None
        query, key, values = parts.split_heads(g, decoder, layer, packed, self.norm)
        return (
            _widened(g, decoder, query, q),
            _widened(g, decoder, key, kv),
            _widened(g, decoder, values, kv),
        )


def _caches(g: GraphWriter, decoder: Decoder, name: str) -> Iterator[list[parts.CachePair]]:
    """Graph inputs or outputs: one pair per run, per layer."""
    width = head_width(decoder)
    for index, layer in enumerate(decoder.layers):
        counts = query_groups.kv_heads(layer)
        names = [f"{name}.{index}.{run}" for run in range(len(counts))]
        if len(counts) == 1:
            names = [f"{name}.{index}"]
        yield [
            parts.cache_pair(g, run_name, heads, "capacity", width)
            for run_name, heads in zip(names, counts, strict=True)
        ]


def head_width(decoder: Decoder) -> int:
    """head_dim rounded up to a multiple of `HEAD_MULTIPLE`; heads are padded with zeros."""
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


def _widened(g: GraphWriter, decoder: Decoder, x: ir.Value, heads: int) -> ir.Value:
    """Concatenated heads padded to the head width: (batch, sequence, heads * head width).

    Each half of a head is padded, because the rotation pairs the halves.
    """
    width, half = head_width(decoder), decoder.head_dim // 2
    if width != decoder.head_dim:
        halves = g.op("Reshape", x, g.int64s(0, 0, 2 * heads, half))
        x = g.op("Pad", halves, g.int64s(0, 0, 0, 0, 0, 0, 0, width // 2 - half))
    return g.op("Reshape", x, g.int64s(0, 0, heads * width))


def _narrowed(g: GraphWriter, decoder: Decoder, x: ir.Value, heads: int) -> ir.Value:
    """The inverse of `_widened`."""
    width, half = head_width(decoder), decoder.head_dim // 2
    if width == decoder.head_dim:
        return x
    halves = g.op("Reshape", x, g.int64s(0, 0, 2 * heads, width // 2))
    kept = g.op("Slice", halves, g.int64s(0), g.int64s(half), g.int64s(3))
    return g.op("Reshape", kept, g.int64s(0, 0, heads * decoder.head_dim))
