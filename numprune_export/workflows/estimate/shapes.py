"""A model as the numbers that its cost follows from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from numprune_export.models.family import Family, part
from numprune_export.models.site import Kind, Site
from numprune_export.pruning.rewrite import parameter_count


@dataclass(frozen=True)
class Sublayer:
    """One site: producers, what stands between, and the consumer."""

    kind: Kind
    inputs: int
    """Width of the residual stream."""
    produced: int
    """Output rows of all producers."""
    width: int
    """Inputs of the consumer."""
    unit: int
    """Of them, those of one unit."""

    @property
    def weights(self) -> int:
        """Of all its layers, biases left out."""
        return self.inputs * (self.produced + self.width)

    def shrunk(self, keep: float) -> Sublayer:
        """With this fraction of its units."""
        width, produced = round(keep * self.width), round(keep * self.produced)
        return replace(self, width=max(1, width), produced=max(1, produced))


@dataclass(frozen=True)
class Shapes:
    """A model."""

    blocks: tuple[tuple[Sublayer, ...], ...]
    """The sites of each block, attention before MLP."""
    hidden: int
    head: int
    """Outputs of a language model's head, 0 for a task head: it is not worth counting."""
    head_dim: int
    activation: str
    """Of the MLP, as the configuration names it."""
    parameters: int
    """Of the whole model, shared ones once."""
    itemsize: int
    """Bytes of a weight and of an activation."""

    @property
    def causal(self) -> bool:
        return self.head > 0

    @property
    def sites(self) -> tuple[Sublayer, ...]:
        return tuple(one for block in self.blocks for one in block)

    @property
    def prunable(self) -> int:
        return sum(one.weights for one in self.sites)

    @property
    def bytes(self) -> int:
        return self.itemsize * self.parameters

    def shrunk(self, keep: float) -> Shapes:
        """With the same fraction of every site's units: how a budget will be shared is not known
        before the scores are."""
        blocks = tuple(tuple(one.shrunk(keep) for one in block) for block in self.blocks)
        found = replace(self, blocks=blocks)
        return replace(found, parameters=self.parameters - self.prunable + found.prunable)


def shapes_of(model: nn.Module, family: Family, itemsize: int) -> Shapes:
    """From a model whose tensors may be on the `meta` device."""
    config: Any = model.config
    sites, stack = family.sites(model), family.block_list(model)
    blocks = tuple(
        tuple(_sublayer(stack[index], site) for site in sites if site.block == index)
        for index in range(len(stack))
    )
    decoder = family.kind == "decoder"
    hidden = int(config.hidden_size)
    head_dim = getattr(config, "head_dim", None) or hidden // int(config.num_attention_heads)
    return Shapes(
        blocks=blocks,
        hidden=hidden,
        head=int(config.vocab_size) if decoder else 0,
        head_dim=int(head_dim),
        activation=str(getattr(config, getattr(family, "activation_key", "hidden_act"))),
        parameters=parameter_count(model),
        itemsize=itemsize,
    )


def _sublayer(block: nn.Module, site: Site) -> Sublayer:
    producers = [part(block, one.path) for one in site.producers]
    return Sublayer(
        kind=site.kind,
        inputs=int(part(block, site.consumer).out_features),
        produced=sum(int(one.out_features) for one in producers),
        width=site.inputs,
        unit=site.consumer_width,
    )
