"""Encoder graph: embeddings, post-norm blocks, task head. A `Mixing` writes the attention.

Inputs: `input_ids` (batch, length) int64; `attention_mask` (batch, length) int64, 1 for real tokens;
`token_type_ids` (batch, length) int64, if the model has token types.
Output: `logits` fp32, (batch, classes) for the task `sequence`, else (batch, length, classes).

Padding must be on the right: a token's index is its position. A sublayer that lost all its units is
its consumer's bias added to the residual.
"""

from __future__ import annotations

from typing import Protocol

import onnx_ir as ir

from numprune_export.export.encoder import Encoder, EncoderLayer
from numprune_exporters.graphs.decoder import parts as linear_parts
from numprune_exporters.graphs.encoder import parts
from numprune_exporters.graphs.writer import GraphWriter, value

OPSET = 20


class Mixing(Protocol):
    """Full self-attention in one form."""

    def mix(self, layer: EncoderLayer, x: ir.Value) -> ir.Value:
        """Attention of x (batch, length, hidden): (batch, length, heads * head_dim)."""
        ...


def ports(encoder: Encoder) -> tuple[ir.Value, ...]:
    """Graph inputs: tokens, mask and, if the model has them, token types."""
    names = ["input_ids", "attention_mask"]
    if encoder.type_embedding is not None:
        names.append("token_type_ids")
    return tuple(value(name, ir.DataType.INT64, ("batch", "length")) for name in names)


def write(
    g: GraphWriter,
    encoder: Encoder,
    inputs: tuple[ir.Value, ...],
    mixing: Mixing,
    *,
    domains: dict[str, int],
    metadata: dict[str, str],
) -> ir.Model:
    """The whole model; `inputs` are the `ports` that `mixing` also uses."""
    tokens, _, *types = inputs
    x = parts.embedded(g, encoder, tokens, *types)
    for index, layer in enumerate(encoder.layers):
        with g.scope(f"layers.{index}"):
            x = parts.normed(
                g, "attention_norm", _attention(g, layer, mixing, x), layer.attention_norm
            )
            x = parts.normed(g, "mlp_norm", _mlp(g, encoder, layer, x), layer.mlp_norm)
    return g.model(
        inputs,
        [parts.answers(g, encoder, x)],
        name=encoder.name,
        opsets={"": OPSET, **domains},
        metadata=metadata,
    )


def _attention(g: GraphWriter, layer: EncoderLayer, mixing: Mixing, x: ir.Value) -> ir.Value:
    if not layer.heads:
        return parts.with_bias(g, "attention.output.bias", x, layer.output)
    y = linear_parts.linear(g, "attention.output", mixing.mix(layer, x), layer.output)
    return g.op("Add", y, x)


def _mlp(g: GraphWriter, encoder: Encoder, layer: EncoderLayer, x: ir.Value) -> ir.Value:
    if not layer.neurons:
        return parts.with_bias(g, "mlp.down.bias", x, layer.down)
    up = linear_parts.linear(g, "mlp.up", x, layer.up)
    y = linear_parts.activated(g, encoder.activation, up)
    return g.op("Add", linear_parts.linear(g, "mlp.down", y, layer.down), x)
