"""Estimate time, memory and disk of a recipe's pruning, before it starts.

shapes, texts   sizes of model and data, from config and recipe: no weights, no tokenizer
forward_passes, linear_algebra, gauss_newton, weight_passes
                work of a block, a site or a pass: operations and bytes by kind
stages          the stages of the pipeline, each a sum of work
machine         this machine or one of a table: memory, and seconds per unit of each kind
memory          resident bytes at each stage's peak of a run on the CPU
device_memory, host_memory
                live bytes on a device and resident bytes beside it
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from numprune_export.core import allocator
from numprune_export.models.device import Wanted
from numprune_export.numerics.matmul_precision import matmul_precision, native
from numprune_export.pipeline.additional_text import text_source
from numprune_export.pipeline.stages.calibrate import (
    reads_moments,
    repairs_at_once,
    repairs_on_more_text,
)
from numprune_export.pruning.score.fisher_obs import reads_output_fisher
from numprune_export.recipe import Recipe
from numprune_export.recipe.conflicts import timing_of
from numprune_export.workflows.estimate import host_memory, machine, weight_passes
from numprune_export.workflows.estimate.clock import WALL, Clock
from numprune_export.workflows.estimate.device_memory import DevicePeaks
from numprune_export.workflows.estimate.forecast import Estimate, StageEstimate
from numprune_export.workflows.estimate.known_machines import FACTORS, MATMULS, MOVED
from numprune_export.workflows.estimate.linear_algebra import statistics_bytes
from numprune_export.workflows.estimate.machine import Machine
from numprune_export.workflows.estimate.machine_speed import measure
from numprune_export.workflows.estimate.prospect import prospect_of
from numprune_export.workflows.estimate.stages import Job, Step
from numprune_export.workflows.estimate.work import Rates

HERE = ("auto", "cpu", "cuda")
"""Names of devices of this machine; `cuda:N` is one too."""


@dataclass(frozen=True)
class Question:
    """What an estimate is asked beside the recipe."""

    on: str | None = None
    """A device of this machine, or a machine of `known_machines`; None: the recipe's `device`."""
    config: Path | None = None
    """As in `prospect_of`."""


def estimate(
    recipe: Recipe,
    *,
    search: Sequence[Path],
    clock: Clock = WALL,
    question: Question | None = None,
) -> Estimate:
    """Time, memory and disk of a recipe's pruning. Sets PyTorch's threads to the recipe's.

    Args:
        recipe: Recipe to estimate.
        search: Folders searched for relative paths of the recipe, in order.
        clock: Wall or CPU time. Call this in a fresh process: its age and memory are taken as those
            of a run that has just started.
        question: The machine and the model that are asked about; None: the recipe's.

    Raises:
        NumpruneError: as `prospect_of`.
        DeviceError: PyTorch has no such device.
        InputError: no such machine is known.
    """
    asked = question or Question()
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    started = clock.started()
    prospect = prospect_of(recipe, search, clock, asked.config)
    job = prospect.job

    def sampled() -> Rates:
        with matmul_precision(recipe.matmul_precision):
            rates = measure(job.shapes, job.texts, clock, gguf=job.gguf)
        allocator.release()
        return {**rates, "processes": started, "headers": prospect.built}

    on, itemsize = asked.on or recipe.device, job.shapes.itemsize
    if on.partition(":")[0] in HERE:
        where = machine.here(on, recipe, itemsize, prospect.wanted, sampled)
    else:
        where = machine.named(on, recipe, itemsize)
    return _on(where, job, prospect.wanted, recipe)


def _on(where: Machine, job: Job, wanted: Wanted, recipe: Recipe) -> Estimate:
    asked = None if recipe.stream_weights == "auto" else recipe.stream_weights
    streamed = wanted.streams(where.free, asked) and wanted.streamed is not None
    steps = job.steps()
    first = next(step.name for step in steps if step.name != "read")
    stages = []
    for step in steps:
        work = step.work
        if where.device_bytes is not None or streamed:
            work += weight_passes.of(job, step.name, streamed=streamed, first=first)
        host, device = _memory(where, job, step, streamed=streamed)
        stages.append(
            StageEstimate(step.name, work.seconds(where.rates), where.runtime + host, device)
        )
    return Estimate(
        recipe.model.source, where, streamed, tuple(stages), _disk(job), _assumptions(job, where)
    )


def _memory(where: Machine, job: Job, step: Step, *, streamed: bool) -> tuple[float, float | None]:
    """Bytes of host, without the runtime, and of the device, None on a CPU."""
    if where.device_bytes is not None:
        peaks = DevicePeaks(job, streamed, where.short, where.device_bytes)
        stays = host_memory.peak(job, step.name, streamed=streamed)
        return where.held(stays, peaks.elsewhere(step.name)), peaks.of(step.name)
    if step.name == "write-text":
        return step.memory, None
    waiting = DevicePeaks(job, streamed, where.short).waiting(step.name)
    stays = step.memory - waiting - (_not_there(job, step) if streamed else 0.0)
    return where.held(max(0.0, stays), waiting), None


def _not_there(job: Job, step: Step) -> float:
    """Bytes of a model that a streamed run does not hold on the CPU."""
    # Blocks that are not in use are not there; of the pruned ones none stays.
    shapes = job.shapes
    absent = shapes.itemsize * (
        shapes.prunable - 2 * max(sum(s.weights for s in block) for block in shapes.blocks)
    )
    small = job.shapes.shrunk(job.recipe.keep)
    pruned = small.itemsize * small.prunable if step.holds_pruned else 0
    return absent + pruned


def _disk(job: Job) -> dict[str, float]:
    shapes, recipe = job.shapes, job.recipe
    rounds = [
        shapes.shrunk(recipe.keep ** (number / recipe.rounds)) for number in range(1, recipe.rounds)
    ]
    gram = reads_moments(recipe) and not job.scores_at_once
    fisher = reads_output_fisher(recipe.score)
    statistics = sum(
        statistics_bytes(site, gram=gram, fisher=fisher)
        for model in (shapes, *rounds)
        for site in model.sites
    )
    if repairs_at_once(recipe) and repairs_on_more_text(recipe):
        statistics += sum(statistics_bytes(site) for site in shapes.sites)
    small = shapes.shrunk(recipe.keep)
    artifacts = len(recipe.targets) * float(shapes.bytes + small.bytes)
    return {"statistics": statistics, "model": float(small.bytes), "artifacts": artifacts}


def _assumptions(job: Job, where: Machine) -> tuple[str, ...]:
    texts, recipe, shapes = job.texts, job.recipe, job.shapes
    assumptions = [
        f"{texts.sequences} calibration sequences, {texts.assumption}",
        "every site keeps the same fraction of its units",
        *_assumed_of(where, recipe, shapes.itemsize),
        "reading the text and the stages after pruning are not included",
    ]
    source = text_source(recipe)
    if source is not None:
        assumptions.insert(1, source)
    if timing_of(recipe.allocate) is not None:
        assumptions.append("timing of sublayers for a budget in milliseconds is not included")
    return tuple(assumptions)


def _assumed_of(where: Machine, recipe: Recipe, itemsize: int) -> Iterator[str]:
    if not where.measured:
        yield (
            "sustained rates are fractions of published peaks:"
            f" {MATMULS:.0%} of matmuls, {FACTORS:.0%} in fp64 factorisations, {MOVED:.0%} of"
            " memory and link"
        )
        return
    threads, precision = torch.get_num_threads(), recipe.matmul_precision
    yield f"{threads} threads, `matmul_precision: {precision}`, the machine as busy as now"
    if where.device_bytes is None and itemsize == 2 and native() != "bfloat16":
        yield (
            "bfloat16 weights: this processor multiplies them many times slower than fp32, which"
            " `model.dtype: float32` would use for twice the memory"
        )
    yield "the run folder is on a disk as fast as the folder for temporary files"
