"""The frame of a decoder graph: embedding, blocks, final norm, logits. A flavour adds its attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import onnx_ir as ir

from numprune_export.artifact import Decoder, DecoderLayer
from numprune_exporters import decoder_parts as parts
from numprune_exporters.decoder_parts import CachePair
from numprune_exporters.graph_writer import GraphWriter, value


class Attention(Protocol):
    """How one flavour attends and keeps its KV cache."""

    @property
    def inputs(self) -> Sequence[ir.Value]:
        """Graph inputs it needs beside tokens, positions and caches."""
        ...

    @property
    def pasts(self) -> Sequence[CachePair]:
        """The cache before the call, layer by layer."""
        ...

    @property
    def presents(self) -> Sequence[CachePair]:
        """The cache after it."""
        ...

    def mix(self, index: int, layer: DecoderLayer, packed: ir.Value) -> ir.Value:
        """Packed q, k, v of layer `index` to (batch, sequence, query heads * head_dim)."""
        ...


def write(
    g: GraphWriter,
    decoder: Decoder,
    tokens: ir.Value,
    attention: Attention,
    *,
    opsets: dict[str, int],
    metadata: dict[str, str],
) -> ir.Model:
    """The whole model; `tokens` is the graph input (batch, sequence) that `attention` knows too."""
    positions = value("logits_positions", ir.DataType.INT64, ("batch", "k"))
    table = parts.stored(g, "embedding.weight", decoder.embedding)
    hidden = _blocks(g, decoder, g.op("Gather", table, tokens), positions, attention)
    final = parts.norm(g, "final_norm", hidden, decoder.final_norm, decoder.norm_eps)
    logits = parts.vocabulary_logits(g, decoder, table, final, positions)
    return g.model(
        [tokens, *attention.inputs, positions, *_flat(attention.pasts)],
        [logits, *_flat(attention.presents)],
        name=decoder.name,
        opsets=opsets,
        metadata=metadata,
    )


def _blocks(
    g: GraphWriter, decoder: Decoder, residual: ir.Value, positions: ir.Value, attention: Attention
) -> ir.Value:
    """The residual stream after all layers, at `positions` only: (batch, k, hidden)."""
    for index, layer in enumerate(decoder.layers):
        with g.scope(f"layers.{index}"):
            x = parts.norm(g, "attention_norm", residual, layer.input_norm, decoder.norm_eps)
            packed = parts.linear(g, "attention.qkv", x, layer.query, layer.key, layer.value)
            mixed = attention.mix(index, layer, packed)
            if index + 1 == len(decoder.layers):
                # After the last attention no position looks at another one.
                mixed, residual = (parts.select(g, one, positions) for one in (mixed, residual))
            y = parts.linear(g, "attention.output", mixed, layer.output)
            residual = g.op("Add", residual, y)
            x = parts.norm(g, "mlp_norm", residual, layer.post_attention_norm, decoder.norm_eps)
            y = parts.linear(g, "mlp.down", parts.gated(g, decoder, layer, x), layer.down)
            residual = g.op("Add", residual, y)
    return residual


def _flat(pairs: Sequence[CachePair]) -> list[ir.Value]:
    return [one for pair in pairs for one in pair]
