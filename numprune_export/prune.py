"""Compensate and rewrite, block by block: a dense model and a plan to a smaller model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from numprune_export import blocks, calibrate, rewrite
from numprune_export.blocks import Batch, Tick
from numprune_export.calibrate import Statistics
from numprune_export.compensate import Compensation
from numprune_export.corpus import Windows
from numprune_export.errors import InputError
from numprune_export.family import Family
from numprune_export.plan import Plan, Site
from numprune_export.units import positions

Lookup = Callable[[Site], Statistics]


def one_shot(
    model: nn.Module, family: Family, plan: Plan, repair: Compensation, dense: Lookup
) -> Any:
    """Every site repaired with the dense model's own statistics.

    Args:
        model: The dense model; not changed.
        family: Its declaration.
        plan: What stays.
        repair: How the consumer is refitted.
        dense: Gives the dense statistics of a site; asked only for sites that lose units.

    Returns:
        A smaller model that shares untouched tensors with `model`.

    Raises:
        InputError: the plan was made for another model.
    """
    _require_own_sites(model, family, plan)
    small = rewrite.twin(model)
    for site in plan.sites:
        if plan.removed(site):
            block = family.block_list(small)[site.block]
            _cut(block, family, site, plan, repair, dense(site))
    return small


def sequential(
    model: nn.Module,
    family: Family,
    plan: Plan,
    repair: Compensation,
    windows: Windows,
    batch: int,
    tick: Tick,
) -> Any:
    """Every site repaired with statistics of the already pruned prefix, front to back.

    Within a block the attention is cut first, so the MLP sees what it will see when served. The
    arguments are those of `one_shot`; `tick` counts sequences through one block.

    Raises:
        InputError: the plan was made for another model.
    """
    _require_own_sites(model, family, plan)
    small = rewrite.twin(model)
    batches = blocks.embed(small, family, windows, batch)
    for index, block in enumerate(family.block_list(small)):
        here = [site for site in plan.sites if site.block == index and plan.removed(site)]
        for site in here:
            statistics = _prefix_statistics(block, site, batches)
            _cut(block, family, site, plan, repair, statistics)
        blocks.advance(block, index, batches, tick)
    return small


def _require_own_sites(model: nn.Module, family: Family, plan: Plan) -> None:
    if plan.sites != family.sites(model):
        raise InputError(
            f"this plan is for another model than this `{family.model_type}`: its sites differ",
            hint="change only `kept` in a plan, or delete its folder to have it made anew",
        )


def _prefix_statistics(block: nn.Module, site: Site, batches: list[Batch]) -> Statistics:
    def no_tick(_: int) -> None:
        return

    return calibrate.gather(block, [site], batches, no_tick, run_on=False)[site.name]


def _cut(
    block: nn.Module,
    family: Family,
    site: Site,
    plan: Plan,
    repair: Compensation,
    statistics: Statistics,
) -> None:
    kept = plan.kept[site.name]
    consumer = block.get_submodule(site.consumer)
    assert isinstance(consumer, nn.Linear), site.consumer
    bias: Tensor | None = consumer.bias
    with torch.no_grad():
        weight, bias = repair(
            consumer.weight, bias, statistics, positions(site.layout(kept), site.consumer_width)
        )
        if kept:
            rewrite.replace_consumer(block, site, weight, bias)
            rewrite.shrink_producers(block, site, kept)
        else:
            rewrite.empty(block, site, bias)
    rewrite.set_attributes(block, family.attributes(block))
