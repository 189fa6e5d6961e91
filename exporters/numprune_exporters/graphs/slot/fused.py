"""Slot graph in the fused operators of opset 23: Attention, RotaryEmbedding, RMSNormalization.

Each layer has one Attention operator, which takes grouped queries directly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from numprune_export.export.decoder import Decoder, DecoderLayer
from numprune_exporters.graphs.decoder import parts, query_groups
from numprune_exporters.graphs.slot.mask import SlotMask
from numprune_exporters.graphs.slot.ports import SlotPorts
from numprune_exporters.graphs.writer import Array, GraphWriter

if TYPE_CHECKING:
    from torch import Tensor


class Fused:
    """Keys and values of cache and call are concatenated: the operator reads one tensor of each."""

    def __init__(self, g: GraphWriter, decoder: Decoder, ports: SlotPorts) -> None:
        self._g, self._decoder, self._ports = g, decoder, ports
        self.inputs = ports.inputs
        self._tables = _rotation_tables(g, decoder)
        self._mask = SlotMask(g, ports.places, ports.slots)
        self._masks: dict[int | None, ir.Value] = {}

    def norm(self, name: str, x: ir.Value, weight: Tensor) -> ir.Value:
        """See Flavour.norm; the operator computes in fp32 by its `stash_type`."""
        scale = parts.stored(self._g, name, weight)
        epsilon = self._decoder.norm_eps
        return self._g.op("RMSNormalization", x, scale, axis=-1, epsilon=epsilon, stash_type=1)

    def outputs(self) -> list[ir.Value]:
        """See Flavour.outputs."""
        return [self._ports.new()]

    def mix(self, index: int, layer: DecoderLayer, x: ir.Value) -> ir.Value:
        """See Flavour.mix."""
        g = self._g
        packed = parts.query_key_value(g, x, layer)
        query, key, values = (
            g.op("Transpose", heads, perm=(0, 2, 1, 3))
            for heads in parts.split_heads(g, self._decoder, layer, packed, self.norm)
        )
        query, key = self._rotated(query), self._rotated(key)
        self._ports.add(_heads_first(g, key), _heads_first(g, values))
        cached = (
            self._runs_joined(layer, old, new)
            for old, new in zip(self._ports.caches[index], (key, values), strict=True)
        )
        queries = query_groups.split(g, query, query_groups.query_heads(layer), axis=1)
        mixed = [
            self._attended(layer.sliding_window, *run)
            for run in zip(layer.runs, queries, *cached, strict=True)
        ]
        return query_groups.joined(g, mixed)

    def _runs_joined(self, layer: DecoderLayer, old: ir.Value, new: ir.Value) -> list[ir.Value]:
        """Concatenated cache and call per run: (batch, KV heads, capacity + sequence, head_dim)."""
        g, counts = self._g, query_groups.kv_heads(layer)
        # Split before Concat: each part is copied once, to where attention reads it.
        pieces = (
            query_groups.split(g, old, counts, axis=0),
            query_groups.split(g, new, counts, axis=1),
        )
        return [
            g.op("Concat", _heads_first(g, past), own, axis=2)
            for past, own in zip(*pieces, strict=True)
        ]

    def _attended(
        self,
        window: int | None,
        run: tuple[int, int],
        query: ir.Value,
        keys: ir.Value,
        values: ir.Value,
    ) -> ir.Value:
        """Concatenated heads of one run: (batch, sequence, its query heads * head_dim)."""
        g, dim, (kv, group) = self._g, self._decoder.head_dim, run
        mask = self._additive(window)
        mixed = g.op("Attention", query, keys, values, mask, scale=dim**-0.5)
        mixed = g.op("Transpose", mixed, perm=(0, 2, 1, 3))
        return g.op("Reshape", mixed, g.int64s(0, 0, kv * group * dim))

    def _rotated(self, x: ir.Value) -> ir.Value:
        return self._g.op("RotaryEmbedding", x, *self._tables, self._ports.places)

    def _additive(self, window: int | None) -> ir.Value:
        """The mask in the graph's dtype: (batch, 1, sequence, capacity + sequence)."""
        g = self._g
        if window not in self._masks:
            mask = self._mask.additive(window)
            # BLOCKED is infinite in fp16, and a fused kernel may subtract infinity from itself.
            if g.dtype == ir.DataType.FLOAT16:
                mask = g.op("Max", mask, g.float32(float(np.finfo(np.float16).min)))
            self._masks[window] = g.op("Unsqueeze", g.narrow(mask), g.int64s(1))
        return self._masks[window]


def _heads_first(g: GraphWriter, x: ir.Value) -> ir.Value:
    """Swap heads and batch."""
    return g.op("Transpose", x, perm=(1, 0, 2, 3))


def _rotation_tables(g: GraphWriter, decoder: Decoder) -> tuple[ir.Value, ir.Value]:
    """cos and sin tables (max_positions, head_dim / 2), indexed by position."""
    shape = (decoder.max_positions, decoder.head_dim // 2)
    scale = np.float32(decoder.rotary_scale)

    def angles() -> Array:
        positions = np.arange(shape[0], dtype=np.float32)
        return np.outer(positions, parts.array(decoder.inverse_frequencies))

    return (
        g.weight("rotary.cos", shape, lambda: np.cos(angles()) * scale),
        g.weight("rotary.sin", shape, lambda: np.sin(angles()) * scale),
    )
