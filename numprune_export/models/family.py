"""What a family declares of an architecture: where it keeps its blocks, sites and tensors.

A declaration holds paths, not forward code: Hugging Face's own forward runs on uneven layers.
"""

from __future__ import annotations

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
    """What pruning needs to know of an architecture, whatever its blocks compute."""

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
        """The classes of transformers that it describes."""
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
        """What the trunk is called with.

        Args:
            tokens: (batch, length), int64, right-padded.
            real: (batch, length), bool, False where padded.
            types: (batch, length), int64, token types; None: all 0.
        """
        ...

    def sites(self, model: nn.Module) -> tuple[Site, ...]:
        """Every prunable site, block by block, attention before MLP, from the actual shapes.

        A sublayer that has lost all its units is no site any more.
        """
        ...

    def attributes(self, block: nn.Module) -> dict[str, int]:
        """Numbers that Hugging Face's forward reads from a block and that follow its widths."""
        ...

    def block_list(self, model: nn.Module) -> list[nn.Module]: ...

    def sublayer_output(self, kind: Kind) -> str | None:
        """Path, from the block, of the module whose input is a sublayer's output plus the residual;
        None: that sum is the block's output."""
        ...

    def reads_first_token_only(self, model: nn.Module) -> bool:
        """Whether the model's head reads the last hidden state of the first token and of no other."""
        ...

    def with_single_query_heads(self) -> Family:
        """The same with every query head as a unit of its own."""
        ...

    def network(self, model: nn.Module) -> Decoder | Encoder:
        """The model as its tensors, shared and not copied.

        Raises:
            UnsupportedModelError: no exported graph can express the model.
        """
        ...


def declare_site(
    block: nn.Module,
    index: int,
    kind: Kind,
    units: int,
    producers: tuple[Producer, ...],
    consumer: str,
    consumer_width: int,
    may_be_empty: bool = False,
    groups: tuple[int, ...] = (),
) -> Site:
    """A site with its cost per unit, read from the layers' actual shapes."""
    own, shared = consumer_width * int(part(block, consumer).out_features), 0
    for producer in producers:
        linear = part(block, producer.path)
        rows = producer.width * (int(linear.in_features) + (linear.bias is not None))
        own, shared = (own, shared + rows) if producer.shared else (own + rows, shared)
    return Site(
        index, kind, units, producers, consumer, consumer_width, own, may_be_empty, groups, shared
    )


def part(module: nn.Module, path: str) -> Any:
    """A submodule, untyped: which attributes it has is what a family declares."""
    return module.get_submodule(path)


def projection(linear: Any) -> Projection:
    return Projection(linear.weight, linear.bias)
