"""Layer-wise distillation from a teacher (Kwon et al. 2022, arXiv:2204.09656, §4.3).

Front to back, attention before MLP: the kept units of each sublayer are fitted so that sublayer
plus residual match the teacher's. The inputs are the student's own, after all earlier fits.

The published code's teacher is not the dense model but a model searched at the geometric mean of
the budget and the dense cost (`assistant_budget`), before rearrangement. Padding is ignored. In the
last block's MLP of a model with one answer per text only the first token counts: no other token is
read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from numprune_export.core.halving import in_parts
from numprune_export.data.corpus import Windows
from numprune_export.models import block_runner
from numprune_export.models.batch import Batch, joined
from numprune_export.models.block_runner import Progress
from numprune_export.models.family import Family
from numprune_export.models.residency import resident
from numprune_export.models.site import Site
from numprune_export.numerics.regression import Moments, MomentSums
from numprune_export.pruning import rewrite
from numprune_export.pruning.compensate.mask_tuning import ScalarTuning
from numprune_export.pruning.compensate.teacher_refit import Refit

Outcome = Literal["tuned", "left alone", "rejected"]
"""`left alone`: the first attention, and all sublayers after a rejection that stops tuning."""


@dataclass(frozen=True)
class TunedSite:
    """Result of tuning one sublayer; errors are Σ‖output − target‖² / Σ‖target‖²."""

    site: str
    outcome: Outcome
    error_before: float
    error_after: float


class _Reached(Exception):
    """Raised to leave a block early; never leaves this module."""


def assistant_budget(budget: float, whole: float) -> float:
    """The teacher's budget: √(budget · whole), with `whole` the dense model's cost."""
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
    """Fit every sublayer of a pruned model that still has units.

    Args:
        student: The pruned model with smaller layers, not compensated; not changed.
        teacher: A less pruned model of the same dense model, or the dense model.
        family: Declaration of both.
        windows: Calibration windows; labels are not needed.
        method: Method of fitting a sublayer.
        batch: Texts per batch.
        tick: Called with the number of texts that passed a block, in student and teacher.

    Returns:
        A model with new consumers that shares all other layers with `student`; and the results by
        sublayer, front to back.

    Raises:
        NumericalError: an activation is not finite.
    """
    small = rewrite.clone_sharing_parameters(student)
    teacher_blocks = family.block_list(teacher)
    sites, record = family.sites(small), []
    batches = block_runner.prepare_batches(small, family, windows, batch)
    targets = [replace(state) for state in batches]  # embeddings are not pruned
    stopped = False
    for index in range(len(teacher_blocks)):
        here = [site for site in sites if site.block == index]
        with resident(small, family, index) as block:
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

    The pass advances `targets` to the block's output, which is the sum for a site without an
    outlet.
    """
    wanted: dict[str, list[Tensor]] = {site.name: [] for site in sites}
    for target in targets:

        def run(rows: slice, target: Batch = target) -> tuple[Tensor, dict[str, Tensor]]:
            with ExitStack() as stack:
                seen = {
                    site.name: stack.enter_context(
                        _input_of(teacher, family.sublayer_output(site.kind), stop=False)
                    )
                    for site in sites
                }
                output = target.part(rows).call(teacher, index)
            sums = {name: inputs[0] if inputs else output for name, inputs in seen.items()}
            return output, sums

        parts = list(in_parts(target.texts, run))
        target.hidden = joined([output for output, _ in parts])
        for name, sums in wanted.items():
            sums.append(joined([part_sums[name] for _, part_sums in parts]))
    return wanted


@torch.no_grad()
def _moments(
    block: nn.Module,
    site: Site,
    outlet: str | None,
    batches: list[Batch],
    wanted: list[Tensor],
    first: bool,
) -> Moments:
    """Moments of the student's input and target, over all batches."""
    consumer: Any = block.get_submodule(site.consumer)
    weight = consumer.weight.detach()
    sums = MomentSums(weight.shape[0], weight.shape[1], weight.device)
    for batch, target in zip(batches, wanted, strict=True):

        def run(
            rows: slice, batch: Batch = batch, target: Tensor = target
        ) -> tuple[Tensor, Tensor]:
            part = batch.part(rows)
            output, inputs = _run(block, part, site.block, outlet, site.consumer)
            difference = target[rows] - output
            if first:
                return inputs[:, 0], difference[:, 0]
            return part.rows(inputs), part.rows(difference)

        for inputs, difference in in_parts(batch.texts, run):
            sums.add(inputs, difference)
    return sums.result(site.name).beside(weight)


def _run(
    block: nn.Module, batch: Batch, index: int, outlet: str | None, consumer: str
) -> tuple[Tensor, Tensor]:
    """Sublayer plus residual, and the consumer's input; the block is left once both are known."""
    with (
        _input_of(block, consumer, stop=False) as inputs,
        _input_of(block, outlet, stop=True) as sums,
        suppress(_Reached),
    ):
        sums.append(batch.call(block, index))
    return sums[0], inputs[0]


@contextmanager
def _input_of(block: nn.Module, path: str | None, *, stop: bool) -> Iterator[list[Tensor]]:
    """Collects the inputs of a module in the block; with `stop` the block is left there."""
    collected: list[Tensor] = []
    if path is None:
        yield collected
        return

    def before(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        collected.append(inputs[0])
        if stop:
            raise _Reached

    handle = block.get_submodule(path).register_forward_pre_hook(before)
    try:
        yield collected
    finally:
        handle.remove()
