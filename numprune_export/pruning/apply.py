"""Compensate and rewrite, block by block: a dense model and a plan to a smaller model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from numprune_export.calibration.statistics import Gathering, Statistics
from numprune_export.core.errors import InputError
from numprune_export.data.corpus import Windows
from numprune_export.models import block_runner
from numprune_export.models.block_runner import Batch, Tick
from numprune_export.models.family import Family
from numprune_export.models.site import Site
from numprune_export.models.substitution import Known, answered
from numprune_export.numerics.indexing import positions
from numprune_export.pruning import rewrite
from numprune_export.pruning.compensate import Compensation
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.pruning.compensate.producers import examples, refit_mlp
from numprune_export.pruning.plan import Plan

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
    batches = block_runner.embed(small, family, windows, batch)
    for index, block in enumerate(family.block_list(small)):
        here = [site for site in plan.sites if site.block == index]
        done: list[Known] = []
        for number, site in enumerate(here):
            if plan.removed(site):
                made = _repaired(block, family, site, plan, repair, batches, done)
            elif any(plan.removed(later) for later in here[number + 1 :]):
                made = _intact(block, site, batches, done)
            else:
                break
            outputs = [batch.spread(one) for batch, one in zip(batches, made, strict=True)]
            done.append(Known(site, outputs))
        with answered(block, done):
            block_runner.advance(block, index, batches, tick)
    return small


def _require_own_sites(model: nn.Module, family: Family, plan: Plan) -> None:
    if plan.sites != family.sites(model):
        raise InputError(
            f"this plan is for another model than this `{family.model_type}`: its sites differ",
            hint="change only `kept` in a plan, or delete its folder to have it made anew",
        )


def _intact(
    block: nn.Module, site: Site, batches: list[Batch], done: Sequence[Known]
) -> list[Tensor]:
    """What a sublayer that loses nothing makes of each batch, (real tokens, out)."""
    inputs: list[Tensor] = []
    with answered(block, done):
        _watch(block, site, batches, inputs.append)
    return _outputs(block, site, inputs)


def _repaired(
    block: nn.Module,
    family: Family,
    site: Site,
    plan: Plan,
    repair: Compensation,
    batches: list[Batch],
    done: Sequence[Known],
) -> list[Tensor]:
    """Cut and repair one site behind what is `done` in its block; what it makes of each batch, (real
    tokens, out)."""
    kept = plan.kept[site.name]
    if isinstance(repair, ClosedForm) and _with_producers(repair, plan, site):
        with answered(block, done):
            known = examples(block, site, batches, repair)
        _cut(block, family, site, plan, repair, known.statistics)
        return refit_mlp(block, site, kept, known, repair)
    tokens = sum(batch.tokens for batch in batches)
    every = (
        repair.every_alone(site.kind, _inputs(site), tokens)
        if isinstance(repair, ClosedForm)
        else 1
    )
    with answered(block, done):
        statistics, inputs = _seen(block, site, batches, kept, every)
    _cut(block, family, site, plan, repair, statistics)
    return _outputs(block, site, inputs)


def _inputs(site: Site) -> int:
    """Of its consumer."""
    return site.units * site.consumer_width


def _with_producers(repair: ClosedForm, plan: Plan, site: Site) -> bool:
    if repair.producers is None or site.kind != "mlp" or not plan.kept[site.name]:
        return False
    return len(plan.removed(site)) >= repair.producers.least * site.units


def _seen(
    block: nn.Module, site: Site, batches: list[Batch], kept: Sequence[int], every: int
) -> tuple[Statistics, list[Tensor]]:
    """Statistics of the whole site behind the pruned prefix, of one token in so many, and the inputs that
    stay: (tokens, k) of each batch."""
    columns = positions(site.layout(kept), site.consumer_width)
    gathering = Gathering(_inputs(site), batches[0].hidden.device)
    inputs: list[Tensor] = []

    def look(rows: Tensor) -> None:
        gathering.add(rows[::every])
        inputs.append(rows[:, columns])

    _watch(block, site, batches, look)
    return gathering.finish(site), inputs


def _watch(
    block: nn.Module, site: Site, batches: list[Batch], look: Callable[[Tensor], None]
) -> None:
    """Show what reaches a site's consumer."""

    def no_tick(_: int) -> None:
        return

    block_runner.watch(block, site.block, batches, {site.consumer: look}, no_tick, run_on=False)


def _outputs(block: nn.Module, site: Site, inputs: list[Tensor]) -> list[Tensor]:
    """What the repaired consumer makes of each batch; the list of inputs is emptied on the way."""
    consumer = block.get_submodule(site.consumer)
    inputs.reverse()
    with torch.no_grad():
        return [consumer(inputs.pop()) for _ in range(len(inputs))]


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
