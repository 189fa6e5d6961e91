"""An encoder with its task head as tensors, the input of every exporter. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from numprune_export.export.artifact import Network
from numprune_export.export.decoder import Projection

if TYPE_CHECKING:
    from torch import Tensor

Task = Literal["sequence", "token", "span"]
"""`sequence`: classify a text. `token`: classify each token. `span`: start and end of an answer."""


@dataclass(frozen=True)
class LayerNorm:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis, in fp32."""

    weight: Tensor
    bias: Tensor
    eps: float


@dataclass(frozen=True)
class EncoderLayer:
    """One post-norm block: x = norm(x + attention(x)), then x = norm(x + mlp(x)).

    Widths differ from layer to layer. A sublayer without units adds only its consumer's bias: its
    `output.weight` is (hidden, 0), and query, key and value have no rows; likewise `down.weight`.
    """

    query: Projection
    key: Projection
    value: Projection
    output: Projection
    attention_norm: LayerNorm
    up: Projection
    down: Projection
    mlp_norm: LayerNorm
    heads: int

    @property
    def neurons(self) -> int:
        return int(self.up.weight.shape[0])


@dataclass(frozen=True)
class Head:
    """The task head; input: the first token's hidden state for `sequence`, else every token's."""

    task: Task
    dense: Projection | None
    """The layer before the classifier, for example BERT's pooler."""
    activation: str | None
    """Activation of `dense`: `tanh` or `relu`."""
    classifier: Projection


@dataclass(frozen=True)
class Encoder:
    """An encoder with its task head as tensors: all that an exporter needs to write a graph.

    Attention is bidirectional, scaled by 1 / sqrt(head_dim); padded keys are masked.
    """

    name: str
    embedding: Tensor
    """(vocabulary, hidden)."""
    position_embedding: Tensor
    """(positions, hidden)."""
    first_position: int
    """Row of `position_embedding` for the first token: 0, or for RoBERTa its padding index + 1."""
    type_embedding: Tensor | None
    """(token types, hidden)."""
    embedding_norm: LayerNorm
    layers: tuple[EncoderLayer, ...]
    head: Head
    head_dim: int
    activation: str
    """Name in transformers' ACT2FN."""
    max_positions: int
    """Maximum sequence length, in tokens."""

    kind: ClassVar[Network] = "encoder"

    @property
    def vocabulary(self) -> int:
        return int(self.embedding.shape[0])

    @property
    def hidden(self) -> int:
        return int(self.embedding.shape[1])

    @property
    def classes(self) -> int:
        return int(self.head.classifier.weight.shape[0])
