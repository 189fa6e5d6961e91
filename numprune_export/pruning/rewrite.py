"""Replace layers by smaller ones. The only module that replaces parts of a model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from numprune_export.models.checkpoint import modeling_numprune
from numprune_export.models.family import Family
from numprune_export.models.residency import Changed, source_of, stream
from numprune_export.models.site import Site
from numprune_export.models.site_layers import SiteLayers
from numprune_export.numerics.indexing import columns_of_units, complement
from numprune_export.pruning.plan import Plan


def clone_sharing_parameters(model: nn.Module) -> Any:
    """A copy with its own modules and the same parameters: layers replaced in the copy get new
    memory, all others share memory with the original."""
    shared: dict[int, Any] = {id(parameter): parameter for parameter in model.parameters()}
    source = source_of(model)
    if source is not None:
        shared[id(source)] = source
    return copy.deepcopy(model, memo=shared)


def shrink_producers(block: nn.Module, site: Site, kept: Sequence[int]) -> None:
    """Cut the removed units' output rows from every producer of the site."""
    members = site.members(kept)
    producers = SiteLayers(block, site).producers
    for producer, linear in zip(site.producers, producers, strict=True):
        owners = [group for group, _ in members] if producer.shared else site.layout(kept)
        rows = columns_of_units(owners, producer.width, linear.weight.device)
        bias = None if linear.bias is None else linear.bias[rows]
        block.set_submodule(producer.path, linear_of(linear.weight[rows], bias))
    if members:
        holder = site.producers[0].path.rpartition(".")[0]
        groups = tuple(len(units) for _, units in members)
        modeling_numprune.regroup(block.get_submodule(holder), groups)


def replace_consumer(block: nn.Module, site: Site, weight: Tensor, bias: Tensor | None) -> None:
    """Replace the consumer by a layer with this weight, (out, kept inputs), and bias, (out,) or
    None."""
    block.set_submodule(site.consumer, linear_of(weight, bias))


def empty(block: nn.Module, site: Site, bias: Tensor | None) -> None:
    """Remove the whole sublayer; only the consumer's bias, if any, is still added to the
    residual."""
    holders = {producer.path.rpartition(".")[0] for producer in site.producers}
    assert len(holders) == 1, site.producers
    modeling_numprune.empty(block, site.kind, holders.pop(), site.consumer)
    if bias is not None:
        constant: Any = block.get_submodule(site.consumer)
        constant.bias = nn.Parameter(bias.detach().contiguous(), requires_grad=False)


def set_attributes(block: nn.Module, attributes: dict[str, int]) -> None:
    """Set attributes such as `mlp.intermediate_size` that the forward pass or a reader relies
    on."""
    for path, value in attributes.items():
        owner, _, name = path.rpartition(".")
        setattr(block.get_submodule(owner), name, value)


def mask(block: nn.Module, site: Site, kept: Sequence[int]) -> None:
    """Zero the removed units' columns of the consumer: the pruned network at full size."""
    layers = SiteLayers(block, site)
    linear = layers.consumer
    removed = complement(layers.width, layers.columns(kept))
    weight = linear.weight.detach().clone()
    weight[:, removed] = 0
    block.set_submodule(site.consumer, linear_of(weight, linear.bias))


def masked(model: nn.Module, family: Family, plan: Plan) -> Any:
    """A model whose sites are masked by `mask`; it shares all other layers with `model`."""

    def mask_block(block: nn.Module, index: int) -> None:
        for site in plan.sites:
            if site.block == index:
                mask(block, site, plan.kept[site.name])

    network, source = clone_sharing_parameters(model), source_of(model)
    if source is not None:
        stream(network, Changed(source, mask_block))
        return network
    for index, block in enumerate(family.block_list(network)):
        mask_block(block, index)
    return network


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A frozen `nn.Linear` with these values, contiguous; weight (out, in)."""
    linear = nn.Linear(
        weight.shape[1], weight.shape[0], bias=bias is not None, device="meta", dtype=weight.dtype
    )
    linear.weight = nn.Parameter(weight.detach().contiguous(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().contiguous(), requires_grad=False)
    return linear


def parameter_count(model: nn.Module) -> int:
    """Number of parameters; shared ones are counted once."""
    return sum(parameter.numel() for parameter in model.parameters())
