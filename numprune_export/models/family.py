"""The protocol of a model family: the blocks, sites and tensors of an architecture.

A declaration contains paths, not forward code: the forward pass of Hugging Face also runs layers of
different widths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from numprune_export.export.decoder import Decoder, Projection
from numprune_export.export.encoder import Encoder
from numprune_export.models.site import Kind, Producer, Site

if TYPE_CHECKING:
    from torch import Tensor, nn

NetworkKind = Literal["decoder", "encoder"]

Config = Any
"""A transformers PretrainedConfig; its attributes differ by family."""


class Family(Protocol):
    """The properties of an architecture that pruning needs."""

    @property
    def model_type(self) -> str:
        """`model_type` of config.json."""
        ...

    @property
    def kind(self) -> NetworkKind:
        """`decoder`: a causal language model. `encoder`: a model with a task head."""
        ...

    @property
    def causal(self) -> bool:
        """Whether a token attends only to itself and to earlier tokens."""
        ...

    @property
    def architectures(self) -> tuple[str, ...]:
        """Names of the supported transformers classes."""
        ...

    @property
    def trunk(self) -> str:
        """Path of the model without its head."""
        ...

    @property
    def blocks(self) -> str:
        """Path of the list of blocks."""
        ...

    def inputs(self, tokens: Tensor, real: Tensor, types: Tensor | None) -> dict[str, Any]:
        """Keyword arguments of the trunk.

        Args:
            tokens: (batch, length), int64, right-padded.
            real: (batch, length), bool, False at padding.
            types: (batch, length), int64, token types; None: all 0.
        """
        ...

    def sites(self, model: nn.Module) -> tuple[Site, ...]:
        """Every prunable site, block by block, attention before MLP, from the actual shapes.

        A sublayer without units is not a site.
        """
        ...

    def attributes(self, block: nn.Module) -> dict[str, int]:
        """Values by path that the forward pass reads from a block and that depend on its widths."""
        ...

    def block_list(self, model: nn.Module) -> list[nn.Module]: ...

    def sublayer_output(self, kind: Kind) -> str | None:
        """Path, from the block, of the module whose input is a sublayer's output plus the residual;
        None: that sum is the block's output."""
        ...

    def reads_first_token_only(self, model: nn.Module) -> bool:
        """Whether the model's head reads only the last hidden state of the first token."""
        ...

    def with_single_query_heads(self) -> Family:
        """The family with each query head as a unit."""
        ...

    def network(self, model: nn.Module) -> Decoder | Encoder:
        """The tensors of the model, not copied.

        Raises:
            UnsupportedModelError: no exported graph can express the model.
        """
        ...


@dataclass(frozen=True)
class LayerPaths:
    """The linear layers of a site; module paths are relative to the block."""

    producers: tuple[Producer, ...]
    consumer: str
    consumer_width: int
    """Input columns of the consumer per unit."""


def declare_site(
    block: nn.Module,
    index: int,
    kind: Kind,
    units: int,
    layers: LayerPaths,
    may_be_empty: bool = False,
    groups: tuple[int, ...] = (),
) -> Site:
    """A site and its cost per unit, from the actual shapes of its layers."""
    own, shared = layers.consumer_width * int(part(block, layers.consumer).out_features), 0
    for producer in layers.producers:
        linear = part(block, producer.path)
        rows = producer.width * (int(linear.in_features) + (linear.bias is not None))
        own, shared = (own, shared + rows) if producer.shared else (own + rows, shared)
    return Site(
        index, kind, units, layers.producers, layers.consumer, layers.consumer_width, own,
        may_be_empty, groups, shared,
    )  # fmt: skip


def part(module: nn.Module, path: str) -> Any:
    """A submodule, untyped: its attributes depend on the family."""
    return module.get_submodule(path)


def projection(linear: Any) -> Projection:
    return Projection(linear.weight, linear.bias)
