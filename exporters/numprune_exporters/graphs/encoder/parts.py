"""Parts of an encoder graph without attention: embeddings, norms, biases, task head.

Activations are (batch, length, width) in the graph's dtype; norms are computed in fp32.
"""

from __future__ import annotations

import onnx_ir as ir

from numprune_export.export.decoder import Projection
from numprune_export.export.encoder import Encoder, Head, LayerNorm
from numprune_exporters.graphs.decoder.parts import linear, stored
from numprune_exporters.graphs.writer import GraphWriter, value

HEAD_ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu"}


def embedded(
    g: GraphWriter, encoder: Encoder, tokens: ir.Value, types: ir.Value | None = None
) -> ir.Value:
    """Normed sum of word, position and token type embeddings: (batch, length, hidden)."""
    with g.scope("embedding"):
        x = g.op("Gather", stored(g, "words", encoder.embedding), tokens)
        x = g.op("Add", x, _positions(g, encoder, tokens))
        if types is not None and encoder.type_embedding is not None:
            x = g.op("Add", x, g.op("Gather", stored(g, "types", encoder.type_embedding), types))
        return normed(g, "norm", x, encoder.embedding_norm)


def _positions(g: GraphWriter, encoder: Encoder, tokens: ir.Value) -> ir.Value:
    """Rows of the position table for the length of `tokens`: (length, hidden)."""
    # Rows before the first position are never read: RoBERTa reserves them for padding.
    table = stored(g, "positions", encoder.position_embedding[encoder.first_position :])
    length = g.op("Shape", tokens, start=1, end=2)
    return g.op("Slice", table, g.int64s(0), length, g.int64s(0))


def normed(g: GraphWriter, name: str, x: ir.Value, norm: LayerNorm) -> ir.Value:
    """LayerNorm over the last axis, in fp32."""
    weight = stored(g, f"{name}.weight", norm.weight, ir.DataType.FLOAT)
    bias = stored(g, f"{name}.bias", norm.bias, ir.DataType.FLOAT)
    y = g.op("LayerNormalization", g.wide(x), weight, bias, axis=-1, epsilon=norm.eps)
    return g.narrow(y)


def with_bias(g: GraphWriter, name: str, x: ir.Value, consumer: Projection) -> ir.Value:
    """x plus the consumer's bias: a sublayer without units."""
    return x if consumer.bias is None else g.op("Add", x, stored(g, name, consumer.bias))


def answers(g: GraphWriter, encoder: Encoder, x: ir.Value) -> ir.Value:
    """The graph output `logits` of the last hidden states x (batch, length, hidden)."""
    head = encoder.head
    dimensions: list[int | str] = ["batch", "length", encoder.classes]
    with g.scope("head"):
        if head.task == "sequence":
            x = g.op("Gather", x, g.int64(0), axis=1)
            dimensions.remove("length")
        x = _before_last(g, head, x)
        logits = linear(g, "classifier", x, head.classifier)
    port = value("logits", ir.DataType.FLOAT, dimensions)
    return g.declare(g.wide(logits), port)


def _before_last(g: GraphWriter, head: Head, x: ir.Value) -> ir.Value:
    if head.dense is not None:
        x = linear(g, "dense", x, head.dense)
    return x if head.activation is None else g.op(HEAD_ACTIVATIONS[head.activation], x)
