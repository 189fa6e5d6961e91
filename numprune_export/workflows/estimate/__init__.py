"""Estimate time, memory and disk of a recipe's pruning on this machine, before it starts.

shapes, texts   sizes of model and data, from config and recipe: no weights, no tokenizer
forward_passes, linear_algebra, gauss_newton
                work of a block or a site: operations and bytes by kind
stages          the stages of the pipeline, each a sum of work
machine_speed   seconds per unit of each kind, sampled in about two seconds
memory          resident bytes at each stage's peak
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psutil
import torch

from numprune_export.core import allocator
from numprune_export.models.checkpoint.load import skeleton
from numprune_export.models.checkpoint.source import resolve
from numprune_export.models.family import Family
from numprune_export.numerics.matmul_precision import matmul_precision
from numprune_export.pipeline.additional_text import text_source
from numprune_export.pipeline.requirements import require_possible
from numprune_export.pipeline.stages.calibrate import (
    reads_moments,
    repairs_at_once,
    repairs_on_more_text,
)
from numprune_export.pruning.score.fisher_obs import reads_output_fisher
from numprune_export.recipe import Recipe
from numprune_export.recipe.conflicts import timing_of
from numprune_export.workflows.estimate.clock import WALL, Clock
from numprune_export.workflows.estimate.forecast import Estimate, StageEstimate
from numprune_export.workflows.estimate.machine_speed import measure
from numprune_export.workflows.estimate.shapes import shapes_of
from numprune_export.workflows.estimate.stages import Job
from numprune_export.workflows.estimate.texts import texts_of


def job_of(recipe: Recipe, search: Sequence[Path], clock: Clock = WALL) -> tuple[Job, float]:
    """The job of a recipe, and the seconds that building the model took.

    No weights are read or fetched.

    Raises:
        NumpruneError: as `checkpoint.source.resolve`, `checkpoint.load.skeleton`,
            `pipeline.requirements.require_possible` and `texts_of`.
    """
    wanted = recipe.model
    source = resolve(wanted.source, revision=wanted.revision, search=search, weights=False)
    family: Family = source.family
    if recipe.query_heads == "single":
        family = family.with_single_query_heads()
    start = clock.now()
    model = skeleton(source)
    built = clock.now() - start
    # Weights are not fetched, so `auto` is what the configuration says.
    declared = getattr(model.config, "dtype", None) or torch.float32
    itemsize = (declared if wanted.dtype == "auto" else getattr(torch, wanted.dtype)).itemsize
    require_possible(recipe, family, model)
    texts = texts_of(recipe.calibration, search)
    return Job(recipe, shapes_of(model, family, itemsize), texts, source.kind == "gguf"), built


def estimate(recipe: Recipe, *, search: Sequence[Path], clock: Clock = WALL) -> Estimate:
    """Time, memory and disk of a recipe's pruning. Sets PyTorch's threads to the recipe's.

    Args:
        recipe: Recipe to estimate.
        search: Folders searched for relative paths of the recipe, in order.
        clock: Wall or CPU time. Call this in a fresh process: its age and memory are taken as those
            of a run that has just started.

    Raises:
        NumpruneError: as `job_of`.
    """
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    started = clock.started()
    job, built = job_of(recipe, search, clock)
    with matmul_precision(recipe.matmul_precision):
        rates = measure(job.shapes, job.texts, clock, gguf=job.gguf)
    rates |= {"processes": started, "headers": built}
    allocator.release()
    runtime = float(psutil.Process().memory_info().rss)
    stages = tuple(
        StageEstimate(step.name, step.work.seconds(rates), runtime + step.memory)
        for step in job.steps()
    )
    return Estimate(recipe.model.source, stages, _disk(job), _assumptions(job))


def _disk(job: Job) -> dict[str, float]:
    shapes, recipe = job.shapes, job.recipe
    rounds = [
        shapes.shrunk(recipe.keep ** (number / recipe.rounds)) for number in range(1, recipe.rounds)
    ]
    squares = [8.0 * site.inputs**2 for model in (shapes, *rounds) for site in model.sites]
    fisher = reads_output_fisher(recipe.score)
    statistics = sum(squares) if fisher else 0.0
    if reads_moments(recipe):
        statistics += sum(
            4.0 * site.width**2 for model in (shapes, *rounds) for site in model.sites
        )
    if repairs_at_once(recipe) and repairs_on_more_text(recipe):
        statistics += sum(4.0 * site.width**2 for site in shapes.sites)
    small = shapes.shrunk(recipe.keep)
    artifacts = len(recipe.targets) * float(shapes.bytes + small.bytes)
    return {"statistics": statistics, "model": float(small.bytes), "artifacts": artifacts}


def _assumptions(job: Job) -> tuple[str, ...]:
    texts, recipe = job.texts, job.recipe
    assumptions = [
        f"{texts.sequences} calibration sequences, {texts.assumption}",
        "every site keeps the same fraction of its units",
        f"{torch.get_num_threads()} threads, `matmul_precision: {recipe.matmul_precision}`, and the"
        " present load of the machine",
        "the run folder is on a disk as fast as the folder for temporary files",
        "reading the text and the stages after pruning are not included",
    ]
    source = text_source(recipe)
    if source is not None:
        assumptions.insert(1, source)
    if recipe.device != "cpu" and torch.cuda.is_available():
        assumptions.append("all work is on the CPU: the speed of a GPU is not measured")
    if recipe.stream_weights is True:
        assumptions.append("the whole model is in memory: streaming is not included")
    if timing_of(recipe.allocate) is not None:
        assumptions.append("timing of sublayers for a budget in milliseconds is not included")
    return tuple(assumptions)
