"""Encoder attention as ONNX Runtime's fused operator: one Attention node per layer."""

from __future__ import annotations

import onnx_ir as ir

from numprune_export.export.encoder import Encoder, EncoderLayer
from numprune_exporters.graphs.decoder.parts import packed
from numprune_exporters.graphs.encoder import frame as encoder_frame
from numprune_exporters.graphs.writer import MICROSOFT, GraphWriter


def build(encoder: Encoder, metadata: dict[str, str], dtype: str = "float32") -> ir.Model:
    """The model with unread weights; inputs and output: see `graphs.encoder.frame`."""
    g = GraphWriter(dtype)
    inputs = encoder_frame.ports(encoder)
    mixing = _FusedAttention(g, encoder, inputs[1])
    domains = {MICROSOFT: 1}
    return encoder_frame.write(g, encoder, inputs, mixing, domains=domains, metadata=metadata)


class _FusedAttention:
    """Projections, scores, softmax and mixing in one node, in fp32 for every dtype of the graph."""

    def __init__(self, g: GraphWriter, encoder: Encoder, mask: ir.Value) -> None:
        self._g, self._dim = g, encoder.head_dim
        with g.scope("mask"):
            self._mask = g.cast(mask, ir.DataType.INT32)

    def mix(self, layer: EncoderLayer, x: ir.Value) -> ir.Value:
        """See Mixing.mix."""
        weight, bias = packed(self._g, "attention.qkv", layer.query, layer.key, layer.value)
        return self._g.op(
            "Attention",
            x,
            weight,
            bias,
            self._mask,
            domain=MICROSOFT,
            num_heads=layer.heads,
            scale=self._dim**-0.5,
        )
