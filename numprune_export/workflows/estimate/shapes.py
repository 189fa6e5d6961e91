"""Shapes of a model that determine its cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from numprune_export.models.family import Family, part
from numprune_export.models.site import Kind, Site
from numprune_export.pruning.rewrite import parameter_count


@dataclass(frozen=True)
class Sublayer:
    """Shapes of one site: producers, elementwise part, consumer."""

    kind: Kind
    inputs: int
    """Width of the residual stream."""
    produced: int
    """Output rows of all producers."""
    width: int
    """Inputs of the consumer."""
    unit: int
    """Inputs of the consumer per unit."""

    @property
    def weights(self) -> int:
        """Weights of all its layers, without biases."""
        return self.inputs * (self.produced + self.width)

    def shrunk(self, keep: float) -> Sublayer:
        """The sublayer with a fraction `keep` of its units."""
        width, produced = round(keep * self.width), round(keep * self.produced)
        return replace(self, width=max(1, width), produced=max(1, produced))


@dataclass(frozen=True)
class Shapes:
    """Shapes of a model."""

    blocks: tuple[tuple[Sublayer, ...], ...]
    """The sites of each block, attention before MLP."""
    hidden: int
    head: int
    """Outputs of a language model's head; 0 for a task head, whose cost is negligible."""
    head_dim: int
    activation: str
    """Activation of the MLP, as named in the config."""
    parameters: int
    """Parameters of the whole model; shared ones count once."""
    itemsize: int
    """Bytes per weight and per activation, the residual stream left out."""

    @property
    def causal(self) -> bool:
        return self.head > 0

    @property
    def sites(self) -> tuple[Sublayer, ...]:
        return tuple(site for block in self.blocks for site in block)

    @property
    def prunable(self) -> int:
        return sum(site.weights for site in self.sites)

    @property
    def stream_itemsize(self) -> int:
        """Bytes per number of the residual stream, which is fp32."""
        return max(4, self.itemsize)

    @property
    def bytes(self) -> int:
        return self.itemsize * self.parameters

    def shrunk(self, keep: float) -> Shapes:
        """The model with the same fraction of every site's units; the real allocation depends on
        scores."""
        blocks = tuple(tuple(site.shrunk(keep) for site in block) for block in self.blocks)
        shrunk = replace(self, blocks=blocks)
        return replace(shrunk, parameters=self.parameters - self.prunable + shrunk.prunable)


def shapes_of(model: nn.Module, family: Family, itemsize: int) -> Shapes:
    """Shapes of a model, whose tensors may be on the `meta` device."""
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
    producers = [part(block, producer.path) for producer in site.producers]
    return Sublayer(
        kind=site.kind,
        inputs=int(part(block, site.consumer).out_features),
        produced=sum(int(layer.out_features) for layer in producers),
        width=site.inputs,
        unit=site.consumer_width,
    )
