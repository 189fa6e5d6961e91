"""Encoder attention in standard operators, for any runtime."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from numprune_export.export.encoder import Encoder, EncoderLayer
from numprune_exporters.graphs.decoder.parts import linear
from numprune_exporters.graphs.encoder import frame as encoder_frame
from numprune_exporters.graphs.writer import GraphWriter

BLOCKED = float(np.finfo(np.float32).min)
"""Finite, so that no row becomes NaN."""


def build(encoder: Encoder, metadata: dict[str, str], dtype: str = "float32") -> ir.Model:
    """The model with unread weights; inputs and output: see `graphs.encoder.frame`."""
    g = GraphWriter(dtype)
    inputs = encoder_frame.ports(encoder)
    mixing = _StandardAttention(g, encoder, inputs[1])
    return encoder_frame.write(g, encoder, inputs, mixing, domains={}, metadata=metadata)


class _StandardAttention:
    """softmax(q kᵀ / sqrt(head_dim) + mask) v; all layers share the mask."""

    def __init__(self, g: GraphWriter, encoder: Encoder, mask: ir.Value) -> None:
        self._g, self._dim = g, encoder.head_dim
        with g.scope("mask"):
            real = g.cast(mask, ir.DataType.BOOL)
            added = g.op("Where", real, g.float32(0.0), g.float32(BLOCKED))
            self._added = g.op("Unsqueeze", added, g.int64s(1, 2))

    def mix(self, layer: EncoderLayer, x: ir.Value) -> ir.Value:
        """See Mixing.mix."""
        g = self._g
        query, key, values = (
            self._split(linear(g, f"attention.{name}", x, projection), layer.heads)
            for name, projection in (
                ("query", layer.query),
                ("key", layer.key),
                ("value", layer.value),
            )
        )
        scores = g.op("MatMul", query, g.op("Transpose", key, perm=(0, 1, 3, 2)))
        scaled = g.op("Mul", g.wide(scores), g.float32(self._dim**-0.5))
        weights = g.narrow(g.op("Softmax", g.op("Add", scaled, self._added), axis=-1))
        mixed = g.op("Transpose", g.op("MatMul", weights, values), perm=(0, 2, 1, 3))
        return g.op("Reshape", mixed, g.int64s(0, 0, layer.heads * self._dim))

    def _split(self, x: ir.Value, heads: int) -> ir.Value:
        """(batch, length, heads * head_dim) to (batch, heads, length, head_dim)."""
        apart = self._g.op("Reshape", x, self._g.int64s(0, 0, heads, self._dim))
        return self._g.op("Transpose", apart, perm=(0, 2, 1, 3))
