"""Compensate and rewrite, block by block: a dense model and a plan to a smaller model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from numprune_export import blocks, rewrite
from numprune_export.between import between
from numprune_export.blocks import Batch, Tick
from numprune_export.calibrate import Gathering, Statistics
from numprune_export.compensate import Compensation
from numprune_export.compensate.closed_form import ClosedForm
from numprune_export.corpus import Windows
from numprune_export.errors import InputError
from numprune_export.family import Family
from numprune_export.known_outputs import Known, answered
from numprune_export.plan import Plan, Site
from numprune_export.producer_refit import ProducerRefit, refit
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

    Within a block the attention is cut first, so the MLP sees what it will see when served. What has
    reached a consumer is held until that is repaired, so nothing before it is computed twice. The
    arguments are those of `one_shot`; `tick` counts sequences through one block.

    Raises:
        InputError: the plan was made for another model.
    """
    _require_own_sites(model, family, plan)
    small = rewrite.twin(model)
    batches = blocks.embed(small, family, windows, batch)
    for index, block in enumerate(family.block_list(small)):
        here = [site for site in plan.sites if site.block == index and plan.removed(site)]
        done: list[Known] = []
        for site in here:
            kept = plan.kept[site.name]
            examples = _producers_of(repair, site, kept)
            with answered(block, done):
                seen = _seen(block, site, batches, kept, examples)
            _cut(block, family, site, plan, repair, seen.statistics)
            if examples is not None:
                _refit_producers(block, site, seen, examples)
            done.append(Known(site, _outputs(block, site, seen, batches)))
        with answered(block, done):
            blocks.advance(block, index, batches, tick)
    return small


def _require_own_sites(model: nn.Module, family: Family, plan: Plan) -> None:
    if plan.sites != family.sites(model):
        raise InputError(
            f"this plan is for another model than this `{family.model_type}`: its sites differ",
            hint="change only `kept` in a plan, or delete its folder to have it made anew",
        )


@dataclass(frozen=True)
class _Examples:
    """Of what a sublayer is to make, where its producers are refitted."""

    settings: ProducerRefit
    damping: float
    """Of the consumer's refit."""


def _producers_of(repair: Compensation, site: Site, kept: Sequence[int]) -> _Examples | None:
    if not isinstance(repair, ClosedForm) or repair.producers is None:
        return None
    return _Examples(repair.producers, repair.damping) if site.kind == "mlp" and kept else None


@dataclass(frozen=True)
class _Seen:
    """Of a site behind the pruned prefix, batch by batch, real tokens only."""

    statistics: Statistics
    """Of the whole site."""
    inputs: list[Tensor]
    """(tokens, k), the consumer's that stay; or (tokens, in), the producers'."""
    of_producers: bool
    """Whether they are the producers', which are refitted then."""
    targets: list[Tensor]
    """(tokens, out), what the dense consumer makes of every so many-th batch, for that refit."""


def _seen(
    block: nn.Module,
    site: Site,
    batches: list[Batch],
    kept: Sequence[int],
    examples: _Examples | None,
) -> _Seen:
    columns = positions(site.layout(kept), site.consumer_width)
    gathering = Gathering(site.units * site.consumer_width, batches[0].hidden.device)
    _, consumer = _layers(block, site)
    inputs: list[Tensor] = []
    targets: list[Tensor] = []

    def reach(rows: Tensor) -> None:
        inputs.append(rows)

    def look(rows: Tensor) -> None:
        gathering.add(rows)
        if examples is None:
            inputs.append(rows[:, columns])
        elif (len(inputs) - 1) % examples.settings.every == 0:
            # Not called: this runs in a hook of its own.
            targets.append(functional.linear(rows, consumer.weight, consumer.bias))

    def no_tick(_: int) -> None:
        return

    layers = {site.consumer: look}
    if examples is not None:
        layers[site.producers[0].path] = reach
    blocks.watch(block, site.block, batches, layers, no_tick, run_on=False)
    return _Seen(gathering.finish(site), inputs, examples is not None, targets)


def _refit_producers(block: nn.Module, site: Site, seen: _Seen, examples: _Examples) -> None:
    """Producers of what is left, and the consumer again; neither where the error would not fall."""
    producers, consumer = _layers(block, site)
    inputs = torch.cat(seen.inputs[:: examples.settings.every])
    targets = torch.cat(seen.targets)
    seen.targets.clear()
    with between(block, site) as activation:
        found = refit(
            activation, producers, consumer, inputs, targets, examples.settings, examples.damping
        )
    if found is None:
        return
    dtype = consumer.weight.dtype
    for producer, (weight, bias) in zip(site.producers, found.producers, strict=True):
        made = rewrite.linear_of(weight.to(dtype), None if bias is None else bias.to(dtype))
        block.set_submodule(producer.path, made)
    rewrite.replace_consumer(block, site, found.consumer.to(dtype), consumer.bias)


def _layers(block: nn.Module, site: Site) -> tuple[list[nn.Linear], nn.Linear]:
    producers = [block.get_submodule(producer.path) for producer in site.producers]
    consumer = block.get_submodule(site.consumer)
    linear = [one for one in producers if isinstance(one, nn.Linear)]
    assert isinstance(consumer, nn.Linear), site.consumer
    assert len(linear) == len(producers), site.producers
    return linear, consumer


def _outputs(block: nn.Module, site: Site, seen: _Seen, batches: list[Batch]) -> list[Tensor]:
    """What the repaired sublayer makes of each batch; the list of inputs is emptied on the way."""
    consumer, inputs = block.get_submodule(site.consumer), seen.inputs
    inputs.reverse()
    if seen.of_producers:
        producers, _ = _layers(block, site)
        with torch.no_grad(), between(block, site) as activation:
            rows = (inputs.pop() for _ in batches)
            made = (consumer(activation([one(x) for one in producers])) for x in rows)
            return [batch.spread(one) for batch, one in zip(batches, made, strict=True)]
    with torch.no_grad():
        return [batch.spread(consumer(inputs.pop())) for batch in batches]


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
