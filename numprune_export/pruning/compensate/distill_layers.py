"""Tune a pruned model towards a less pruned one (Kwon et al. 2022, arXiv:2204.09656, §4.3).

Front to back, attention before MLP: each sublayer's kept units are fitted so that sublayer plus
residual match the teacher's, on the student's own inputs, which all earlier fits have changed.

The published code's teacher is not the dense model but one searched at the geometric mean of the
budget and the whole (`assistant_budget`), before rearrangement. Padding never counts; in the last
block's MLP of a model with one answer per text only the first token does, for nothing reads others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from numprune_export.data.corpus import Windows
from numprune_export.models import block_runner
from numprune_export.models.block_runner import Batch, Progress
from numprune_export.models.family import Family
from numprune_export.models.site import Site
from numprune_export.numerics.regression import Moments, MomentSums
from numprune_export.pruning import rewrite
from numprune_export.pruning.compensate.teacher_methods import Refit, ScalarTuning

Outcome = Literal["tuned", "left alone", "rejected"]
"""`left alone`: the first attention, and all after a rejection that stops."""


@dataclass(frozen=True)
class TunedSite:
    """What became of one sublayer; errors are Σ‖output − target‖² / Σ‖target‖²."""

    site: str
    outcome: Outcome
    error_before: float
    error_after: float


class _Reached(Exception):
    """Raised where nothing more is needed of a block; never leaves this module."""


def assistant_budget(budget: float, whole: float) -> float:
    """The teacher's budget: √(budget/whole) of the whole."""
    return math.sqrt(budget * whole)


def tune(
    student: nn.Module,
    teacher: nn.Module,
    family: Family,
    windows: Windows,
    method: ScalarTuning | Refit,
    *,
    batch: int,
    tick: Progress,
) -> tuple[Any, tuple[TunedSite, ...]]:
    """Fit every sublayer of a pruned model that has units.

    Args:
        student: Really smaller, not repaired. Not changed.
        teacher: Another pruned model of the same dense one, or the dense one.
        family: Of both.
        windows: Texts, no labels.
        method: How a sublayer is fitted.
        batch: Texts run at once.
        tick: Told the texts that passed a block, student and teacher together.

    Returns:
        A model with new consumers, sharing all else with `student`; and the record, front to back.

    Raises:
        NumericalError: an activation is not finite.
    """
    small = rewrite.clone_sharing_parameters(student)
    teacher_blocks = family.block_list(teacher)
    sites, record = family.sites(small), []
    batches = block_runner.prepare_batches(small, family, windows, batch)
    targets = [replace(one) for one in batches]  # embeddings are not pruned
    stopped = False
    for index, block in enumerate(family.block_list(small)):
        here = [site for site in sites if site.block == index]
        wanted = _wanted(family, teacher_blocks[index], index, here, targets)
        for site in here:
            last_mlp = index == len(teacher_blocks) - 1 and site.kind == "mlp"
            first = last_mlp and family.reads_first_token_only(small)
            outlet = family.sublayer_output(site.kind)
            moments = _moments(block, site, outlet, batches, wanted.pop(site.name), first)
            done = _fit(block, site, moments, method, leave=stopped or _skipped(site, method))
            record.append(done)
            stops = isinstance(method, ScalarTuning) and method.stop_at_rejection
            stopped = stopped or (stops and done.outcome == "rejected")
        block_runner.advance(block, index, batches, tick)
    return small, tuple(record)


def _fit(
    block: nn.Module, site: Site, moments: Moments, method: ScalarTuning | Refit, *, leave: bool
) -> TunedSite:
    consumer: Any = block.get_submodule(site.consumer)
    weight, bias = consumer.weight.detach(), consumer.bias
    before = moments.error(weight)
    if leave:
        return TunedSite(site.name, "left alone", before, before)
    change = method.solve(
        weight, moments, site.consumer_width, site.kind, has_bias=bias is not None
    )
    if change is None:
        return TunedSite(site.name, "rejected", before, before)
    fitted, shift = change
    if bias is not None:
        bias = (bias.detach().double() + shift).to(weight.dtype)
    rewrite.replace_consumer(block, site, fitted.to(weight.dtype), bias)
    return TunedSite(site.name, "tuned", before, moments.error(fitted, shift))


def _skipped(site: Site, method: ScalarTuning | Refit) -> bool:
    first = site.block == 0 and site.kind == "attention"
    return isinstance(method, ScalarTuning) and first and not method.first_attention


@torch.no_grad()
def _wanted(
    family: Family, teacher: nn.Module, index: int, sites: Sequence[Site], targets: list[Batch]
) -> dict[str, list[Tensor]]:
    """The teacher's sums of sublayer and residual by site name, batch by batch, in one pass.

    The pass takes `targets` to the block's output, which a last sublayer without an outlet is given.
    """
    found: dict[str, list[Tensor]] = {site.name: [] for site in sites}
    for target in targets:
        with ExitStack() as stack:
            seen = {
                site.name: stack.enter_context(
                    _input_of(teacher, family.sublayer_output(site.kind), stop=False)
                )
                for site in sites
            }
            target.hidden = target.arguments[index].call(teacher, target.hidden)
        for name, inputs in seen.items():
            found[name].append(inputs[0] if inputs else target.hidden)
    return found


@torch.no_grad()
def _moments(
    block: nn.Module,
    site: Site,
    outlet: str | None,
    batches: list[Batch],
    wanted: list[Tensor],
    first: bool,
) -> Moments:
    """Sums over all batches of the student's input and what it falls short of."""
    consumer: Any = block.get_submodule(site.consumer)
    weight = consumer.weight.detach()
    sums = MomentSums(weight.shape[0], weight.shape[1], weight.device)
    for batch, target in zip(batches, wanted, strict=True):
        given, inputs = _run(block, site.block, batch, outlet, site.consumer)
        short = target - given
        if first:
            sums.add(inputs[:, 0], short[:, 0])
        else:
            sums.add(batch.rows(inputs), batch.rows(short))
    return sums.result(site.name).beside(weight)


def _run(
    block: nn.Module, index: int, batch: Batch, outlet: str | None, consumer: str
) -> tuple[Tensor, Tensor]:
    """Sublayer plus residual, and the consumer's input; the block is left as soon as both are known."""
    with (
        _input_of(block, consumer, stop=False) as inputs,
        _input_of(block, outlet, stop=True) as sums,
        suppress(_Reached),
    ):
        sums.append(batch.arguments[index].call(block, batch.hidden))
    return sums[0], inputs[0]


@contextmanager
def _input_of(block: nn.Module, path: str | None, *, stop: bool) -> Iterator[list[Tensor]]:
    """Collects what a part of the block is given; with `stop` the block is left there."""
    found: list[Tensor] = []
    if path is None:
        yield found
        return

    def before(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append(inputs[0])
        if stop:
            raise _Reached

    handle = block.get_submodule(path).register_forward_pre_hook(before)
    try:
        yield found
    finally:
        handle.remove()
