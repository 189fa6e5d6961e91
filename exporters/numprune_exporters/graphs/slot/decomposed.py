"""Slot graph in basic operators. The KV cache is never copied.

Scores against the cache slots and against the call's tokens share one softmax; each part of the
weights then multiplies its own values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from numprune_export.export.decoder import Decoder, DecoderLayer
from numprune_exporters.graphs.decoder import parts, query_groups
from numprune_exporters.graphs.decoder.rotary import Rotation
from numprune_exporters.graphs.slot.mask import SlotMask
from numprune_exporters.graphs.slot.ports import SlotPorts
from numprune_exporters.graphs.writer import GraphWriter

if TYPE_CHECKING:
    from torch import Tensor


class Decomposed:
    """Queries of one KV head are stacked as rows; every matmul is (kv heads, batch, rows, ...)."""

    def __init__(self, g: GraphWriter, decoder: Decoder, ports: SlotPorts) -> None:
        self._g, self._decoder, self._ports = g, decoder, ports
        self.inputs = ports.inputs
        self._rotation = Rotation(g, decoder, ports.places)
        self._mask = SlotMask(g, ports.places, ports.slots)
        with g.scope("shape"):
            self._batch = g.op("Shape", ports.places, start=0, end=1)
            self._sequence = g.op("Shape", ports.places, start=1, end=2)
            capacity = g.op("Shape", ports.slots, start=1, end=2)
            self._parts = g.op("Concat", capacity, self._sequence, axis=0)
            self._both = g.op("Add", capacity, self._sequence)
        self._shapes: dict[tuple[int | str, ...], ir.Value] = {}

    def norm(self, name: str, x: ir.Value, weight: Tensor) -> ir.Value:
        """See Flavour.norm."""
        return parts.norm(self._g, name, x, weight, self._decoder.norm_eps)

    def outputs(self) -> list[ir.Value]:
        """See Flavour.outputs."""
        return [self._ports.new()]

    def mix(self, index: int, layer: DecoderLayer, x: ir.Value) -> ir.Value:
        """See Flavour.mix."""
        g = self._g
        packed = parts.query_key_value(g, x, layer)
        query, key, values = parts.split_heads(g, self._decoder, layer, packed, self.norm)
        query = g.op("Mul", query, g.number(self._decoder.head_dim**-0.5))
        query, key = self._rotation.rotated(query), self._rotation.rotated(key)
        key = g.op("Transpose", key, perm=(2, 0, 1, 3))
        values = g.op("Transpose", values, perm=(2, 0, 1, 3))
        self._ports.add(key, values)
        queries = query_groups.split(g, query, query_groups.query_heads(layer), axis=2)
        cached = zip(
            *(
                query_groups.split(g, tensor, query_groups.kv_heads(layer), axis=0)
                for tensor in (*self._ports.caches[index], key, values)
            ),
            strict=True,
        )
        mixed = [
            self._attended(layer.sliding_window, *run)
            for run in zip(layer.runs, queries, cached, strict=True)
        ]
        return query_groups.joined(g, mixed)

    def _attended(
        self,
        window: int | None,
        run: tuple[int, int],
        query: ir.Value,
        cached: tuple[ir.Value, ...],
    ) -> ir.Value:
        """Concatenated heads of one run; `cached`: keys and values of slots, then of the call."""
        g, (past_key, past_values, key, values) = self._g, cached
        stacked = self._stacked(run, query)
        scores = [
            g.op("MatMul", stacked, g.op("Transpose", keys, perm=(0, 1, 3, 2)))
            for keys in (past_key, key)
        ]
        past, own = self._weights(window, run, g.op("Concat", *scores, axis=-1))
        mixed = g.op("Add", g.op("MatMul", past, past_values), g.op("MatMul", own, values))
        return self._unstacked(run, mixed)

    def _stacked(self, run: tuple[int, int], query: ir.Value) -> ir.Value:
        """(batch, sequence, query heads, head_dim) to (kv heads, batch, group * sequence, head_dim)."""
        g, dim, (kv, group) = self._g, self._decoder.head_dim, run
        query = g.op("Reshape", query, g.int64s(0, 0, kv, group, dim))
        query = g.op("Transpose", query, perm=(2, 0, 3, 1, 4))
        return g.op("Reshape", query, g.int64s(0, 0, -1, dim))

    def _weights(
        self, window: int | None, run: tuple[int, int], scores: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        """Softmax over slots and own tokens together, in fp32, split into these two parts."""
        g, (kv, group) = self._g, run
        apart = g.op("Reshape", g.wide(scores), self._shape(kv, "batch", group, "sequence", "both"))
        masked = g.op("Add", apart, g.op("Unsqueeze", self._mask.additive(window), g.int64s(1)))
        weights = g.narrow(g.op("Softmax", masked, axis=-1))
        rows = g.op("Reshape", weights, self._shape(kv, "batch", -1, "both"))
        past, own = g.ops("Split", rows, self._parts, outputs=2, axis=-1)
        return past, own

    def _unstacked(self, run: tuple[int, int], mixed: ir.Value) -> ir.Value:
        """Undo `_stacked` and concatenate the heads: (batch, sequence, query heads * head_dim)."""
        g, dim, (kv, group) = self._g, self._decoder.head_dim, run
        shape = self._shape(kv, "batch", group, "sequence", dim)
        mixed = g.op("Transpose", g.op("Reshape", mixed, shape), perm=(1, 3, 0, 2, 4))
        return g.op("Reshape", mixed, g.int64s(0, 0, kv * group * dim))

    def _shape(self, *dims: int | str) -> ir.Value:
        """A shape of numbers and named graph dimensions, written once."""
        g = self._g
        known = {"batch": self._batch, "sequence": self._sequence, "both": self._both}
        if dims not in self._shapes:
            sizes = [known[dim] if isinstance(dim, str) else g.int64s(dim) for dim in dims]
            self._shapes[dims] = g.op("Concat", *sizes, axis=0)
        return self._shapes[dims]
