"""Decoder graph: embedding, blocks, final norm, logits. A `Flavour` writes norms and attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import onnx_ir as ir

from numprune_export.export.decoder import Decoder, DecoderLayer
from numprune_exporters.graphs.decoder import parts
from numprune_exporters.graphs.writer import GraphWriter, value

if TYPE_CHECKING:
    from torch import Tensor


class Flavour(Protocol):
    """Norms, attention and KV cache in the form that suits one runtime."""

    @property
    def inputs(self) -> Sequence[ir.Value]:
        """Further graph inputs beside tokens and logits positions, caches last."""
        ...

    def norm(self, name: str, x: ir.Value, weight: Tensor) -> ir.Value:
        """RMSNorm of x over its last axis."""
        ...

    def mix(self, index: int, layer: DecoderLayer, x: ir.Value) -> ir.Value:
        """Attention of layer `index` on the normed x: (batch, sequence, query heads * head_dim)."""
        ...

    def outputs(self) -> Sequence[ir.Value]:
        """Graph outputs beside the logits; called after all layers are written."""
        ...


def write(
    g: GraphWriter,
    decoder: Decoder,
    tokens: ir.Value,
    flavour: Flavour,
    *,
    opsets: dict[str, int],
    metadata: dict[str, str],
) -> ir.Model:
    """The whole model; `tokens` is the graph input (batch, sequence) that `flavour` also uses."""
    positions = value("logits_positions", ir.DataType.INT64, ("batch", "k"))
    table = parts.stored(g, "embedding.weight", decoder.embedding)
    hidden = _blocks(g, decoder, g.op("Gather", table, tokens), positions, flavour)
    final = flavour.norm("final_norm", hidden, decoder.final_norm)
    logits = parts.vocabulary_logits(g, decoder, table, final, positions)
    return g.model(
        [tokens, positions, *flavour.inputs],
        [logits, *flavour.outputs()],
        name=decoder.name,
        opsets=opsets,
        metadata=metadata,
    )


def _blocks(
    g: GraphWriter, decoder: Decoder, residual: ir.Value, positions: ir.Value, flavour: Flavour
) -> ir.Value:
    """The residual stream after all layers, at `positions` only: (batch, k, hidden)."""
    for index, layer in enumerate(decoder.layers):
        with g.scope(f"layers.{index}"):
            x = flavour.norm("attention_norm", residual, layer.input_norm)
            mixed = flavour.mix(index, layer, x)
            if index + 1 == len(decoder.layers):
                # Positions are independent after the last attention.
                mixed = parts.select(g, mixed, positions)
                residual = parts.select(g, residual, positions)
            y = parts.linear(g, "attention.output", mixed, layer.output)
            residual = g.op("Add", residual, y)
            x = flavour.norm("mlp_norm", residual, layer.post_attention_norm)
            y = parts.linear(g, "mlp.down", parts.gated(g, decoder, layer, x), layer.down)
            residual = g.op("Add", residual, y)
    return residual
