"""An encoder with its task head as its tensors: what a target writes a graph from. Importing it costs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from numprune_export.export.artifact import Network
from numprune_export.export.decoder import Projection

if TYPE_CHECKING:
    from torch import Tensor

Task = Literal["sequence", "token", "span"]
"""`sequence`: one answer per text. `token`: one per token. `span`: where an answer starts and ends."""


@dataclass(frozen=True)
class LayerNorm:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis, in fp32."""

    weight: Tensor
    bias: Tensor
    eps: float


@dataclass(frozen=True)
class EncoderLayer:
    """One post-norm block: x = norm(x + attention(x)), then x = norm(x + mlp(x)).

    Widths differ from layer to layer. A sublayer that lost all its units is its consumer's bias
    alone: `output.weight` is (hidden, 0), and q, k and v have no rows; `down.weight` likewise.
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
    """What turns hidden states into answers: of the first token for `sequence`, else of every one."""

    task: Task
    dense: Projection | None
    """A layer before the last one, with its `activation`: BERT's pooler, for example."""
    activation: str | None
    """`tanh` or `relu`."""
    classifier: Projection


@dataclass(frozen=True)
class Encoder:
    """An encoder with its task head as its tensors: all that an exporter needs to write a graph.

    Attention is full, scaled by 1 / sqrt(head_dim); padded keys are not seen.
    """

    name: str
    embedding: Tensor
    """(vocabulary, hidden)."""
    position_embedding: Tensor
    """(positions, hidden)."""
    first_position: int
    """Row of `position_embedding` for a text's first token: 0, or after RoBERTa's padding row."""
    type_embedding: Tensor | None
    """(token types, hidden)."""
    embedding_norm: LayerNorm
    layers: tuple[EncoderLayer, ...]
    head: Head
    head_dim: int
    activation: str
    """Name in transformers' ACT2FN."""
    max_positions: int
    """The longest text, in tokens."""

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
