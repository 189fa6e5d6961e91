"""A causal language model as tensors, the input of every exporter. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar

from numprune_export.export.artifact import Network

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Projection:
    """One linear layer: `weight` in PyTorch layout (out, in), `bias` (out,) or None."""

    weight: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True)
class DecoderLayer:
    """One block of a rotary decoder: RMSNorm, grouped-query attention, RMSNorm, gated MLP.

    Widths differ from layer to layer. Query heads are ordered by the KV head that they read.
    """

    input_norm: Tensor
    query: Projection
    key: Projection
    value: Projection
    output: Projection
    query_norm: Tensor | None
    """RMSNorm weight over head_dim, applied per head before the rotation (Qwen3), or None."""
    key_norm: Tensor | None
    post_attention_norm: Tensor
    gate: Projection
    up: Projection
    down: Projection
    groups: tuple[int, ...]
    """Query heads of each KV head. Equal numbers are adjacent, so there are at most as many `runs`
    as distinct numbers."""
    sliding_window: int | None
    """Positions that a token attends to, itself included; None: all previous ones."""

    @property
    def channels(self) -> int:
        return int(self.up.weight.shape[0])

    @property
    def query_heads(self) -> int:
        return sum(self.groups)

    @property
    def kv_heads(self) -> int:
        return len(self.groups)

    @property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """Runs of adjacent KV heads with equal groups: (KV heads, query heads of each)."""
        return tuple((len(list(run)), size) for size, run in groupby(self.groups))


@dataclass(frozen=True)
class Decoder:
    """A causal language model as tensors, with everything that an exporter needs to write a graph.

    Rotary embeddings are in the Llama layout: the first half of the head is rotated against the
    second half. `cos` and `sin` of `position * inverse_frequencies` are multiplied by
    `rotary_scale`. The norm is RMSNorm, x / sqrt(mean(x²) + norm_eps) * weight, computed in fp32.
    """

    name: str
    embedding: Tensor
    """(vocabulary, hidden)."""
    layers: tuple[DecoderLayer, ...]
    final_norm: Tensor
    head: Projection
    """(vocabulary, hidden); `head.weight is embedding` when the two are tied."""
    head_dim: int
    norm_eps: float
    activation: str
    """Name in transformers' ACT2FN: `silu`, `gelu`, `gelu_pytorch_tanh`, `relu`."""
    inverse_frequencies: Tensor
    """(head_dim / 2,), fp32."""
    rotary_scale: float
    max_positions: int

    kind: ClassVar[Network] = "decoder"

    @property
    def vocabulary(self) -> int:
        return int(self.embedding.shape[0])

    @property
    def hidden(self) -> int:
        return int(self.embedding.shape[1])

    @property
    def tied(self) -> bool:
        return self.head.weight is self.embedding
