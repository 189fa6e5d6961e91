"""Rotary position embedding in basic operators, in fp32 (Su et al. 2021, arXiv:2104.09864)."""

from __future__ import annotations

import onnx_ir as ir

from numprune_export.export.decoder import Decoder
from numprune_exporters.graphs.decoder import parts
from numprune_exporters.graphs.writer import GraphWriter


class Rotation:
    """cos and sin of each token's angles (batch, sequence, 1, head_dim / 2), written once."""

    def __init__(self, g: GraphWriter, decoder: Decoder, places: ir.Value) -> None:
        self._g, self._half = g, decoder.head_dim // 2
        with g.scope("rotary"):
            frequencies = parts.stored(
                g, "inverse_frequencies", decoder.inverse_frequencies, ir.DataType.FLOAT
            )
            column = g.op("Unsqueeze", g.cast(places, ir.DataType.FLOAT), g.int64s(2, 3))
            angles = g.op("Mul", column, frequencies)
            scale = g.float32(decoder.rotary_scale)
            self._cos = g.op("Mul", g.op("Cos", angles), scale)
            self._sin = g.op("Mul", g.op("Sin", angles), scale)

    def rotated(self, x: ir.Value) -> ir.Value:
        """Rotate each pair (i, i + head_dim / 2) of x (batch, sequence, heads, head_dim)."""
        g, half = self._g, self._half
        a, b = g.ops("Split", g.wide(x), g.int64s(half, half), outputs=2, axis=-1)
        first = g.op("Sub", g.op("Mul", a, self._cos), g.op("Mul", b, self._sin))
        second = g.op("Add", g.op("Mul", b, self._cos), g.op("Mul", a, self._sin))
        return g.narrow(g.op("Concat", first, second, axis=-1))
