"""Cost of an encoder, counted from its shapes: nothing is timed, no weights are read.

A forward pass of many tokens is compute-bound; a forward pass of few tokens is bound by reading the
weights. The dense-to-pruned ratios of the two differ little: each weight is used once per token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numprune_export.export.decoder import Projection
from numprune_export.export.encoder import Encoder, EncoderLayer, Head, LayerNorm

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class EncoderCost:
    """Totals at one batch size and one length.

    Embeddings and head are counted separately, since pruning does not change them.
    """

    embedding_parameters: int
    layer_parameters: int
    head_parameters: int
    parameter_bytes: int
    """Of embeddings, layers and head, as exported."""
    layer_macs: int
    """Multiply-accumulates of the blocks' linear layers, of length x length attention scores and of
    their weighted sums."""
    head_macs: int
    bytes_read: int
    """Per forward pass: blocks and head once, one row of each embedding table per token."""

    @property
    def parameters(self) -> int:
        return self.embedding_parameters + self.layer_parameters + self.head_parameters

    @property
    def macs(self) -> int:
        """Of a forward pass; embedding look-ups have no multiplications."""
        return self.layer_macs + self.head_macs


def encoder_cost(encoder: Encoder, *, batch: int, length: int, itemsize: int) -> EncoderCost:
    """Count the cost of an encoder.

    Args:
        encoder: Only its shapes are read.
        batch: Texts processed together.
        length: Tokens per text, without padding.
        itemsize: Bytes per exported number.
    """
    embedding = _embedding_parameters(encoder)
    layers = sum(_layer_parameters(layer) for layer in encoder.layers)
    head_projections = _projections(encoder.head)
    head = sum(_size(projection) for projection in head_projections)
    tables = 2 + (encoder.type_embedding is not None)
    outputs = 1 if encoder.head.task == "sequence" else length
    return EncoderCost(
        embedding_parameters=embedding,
        layer_parameters=layers,
        head_parameters=head,
        parameter_bytes=itemsize * (embedding + layers + head),
        layer_macs=batch * sum(_layer_macs(encoder, layer, length) for layer in encoder.layers),
        head_macs=batch
        * outputs
        * sum(projection.weight.numel() for projection in head_projections),
        bytes_read=itemsize * (layers + head + batch * length * tables * encoder.hidden),
    )


def ideal_speedup(dense: EncoderCost, pruned: EncoderCost) -> float:
    """Upper bound of the speed-up: the ratio of multiply-accumulates."""
    return dense.macs / pruned.macs


def _layer_macs(encoder: Encoder, layer: EncoderLayer, length: int) -> int:
    linear = sum(projection.weight.numel() for projection in _linears(layer))
    scores = 2 * layer.heads * encoder.head_dim * length  # q·k, and weights·v
    return length * (linear + scores)


def _layer_parameters(layer: EncoderLayer) -> int:
    return sum(_size(projection) for projection in _linears(layer)) + sum(
        _norm(norm) for norm in (layer.attention_norm, layer.mlp_norm)
    )


def _embedding_parameters(encoder: Encoder) -> int:
    types = encoder.type_embedding
    tables: list[Tensor] = [encoder.embedding, encoder.position_embedding]
    tables += [] if types is None else [types]
    return sum(table.numel() for table in tables) + _norm(encoder.embedding_norm)


def _linears(layer: EncoderLayer) -> tuple[Projection, ...]:
    return (layer.query, layer.key, layer.value, layer.output, layer.up, layer.down)


def _projections(head: Head) -> tuple[Projection, ...]:
    return (head.classifier,) if head.dense is None else (head.dense, head.classifier)


def _norm(norm: LayerNorm) -> int:
    return norm.weight.numel() + norm.bias.numel()


def _size(projection: Projection) -> int:
    bias = projection.bias
    return projection.weight.numel() + (0 if bias is None else bias.numel())
