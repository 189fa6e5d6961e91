"""A run: prune, compensate, export, validate, benchmark and report, as given by a recipe.

The output of each stage is a folder of the run, written atomically. Its key is a hash of all its
inputs: repeating the command resumes the run, and a changed recipe reruns only the affected stages.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from numprune_export import recipe as recipes
from numprune_export.core.progress import Observer, Silent
from numprune_export.core.run_folder import RECIPE, FollowedFolder, open_folder
from numprune_export.core.shared_folder import SharedFolder
from numprune_export.measure.environment import describe
from numprune_export.numerics import ranks
from numprune_export.pipeline import notices
from numprune_export.pipeline.additional_text import text_source
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.exported import Exported, Target, chosen_targets
from numprune_export.pipeline.kinds.kind import ModelKind
from numprune_export.pipeline.models import VARIANTS, Dense, Models
from numprune_export.pipeline.opening import open_inputs
from numprune_export.pipeline.rounds import pruned_checkpoint
from numprune_export.pipeline.stages import report as report_stage
from numprune_export.pipeline.stages.benchmark import benchmark
from numprune_export.pipeline.stages.export import export
from numprune_export.pipeline.stages.recover import recover
from numprune_export.pipeline.stages.report import Finished
from numprune_export.pipeline.stages.validate import validate
from numprune_export.provenance.code import running
from numprune_export.provenance.record import Making
from numprune_export.recipe import Recipe
from numprune_export.report.schema import Report


def run(
    recipe: Recipe,
    *,
    name: str,
    folder: Path,
    search: Sequence[Path],
    observer: Observer,
    shared: Path | None = None,
) -> Report:
    """Run a recipe, or resume an interrupted run.

    Args:
        recipe: The recipe.
        name: Name of the recipe, for the report.
        folder: The run folder: new, empty, or of an earlier run.
        search: Folders that relative paths in the recipe are resolved against, in order.
        observer: Notified of progress.
        shared: A folder for stages that do not depend on the budget, shared with other runs.

    Returns:
        The report, also written as report.json, report.md and report.html.

    Raises:
        NumpruneError: a subclass; see `errors`. The next run reuses finished stages.
    """
    targets = chosen_targets(recipe)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    with open_folder(folder) as run_folder:
        shared_folder = None if shared is None else SharedFolder(shared)
        context = Context(recipe, run_folder, observer, shared_folder)
        dense, kind = open_inputs(recipe, search)
        run_folder.log(f"device: {dense.device}, {dense.placement.reason}")
        source = text_source(recipe)
        if source is not None:
            run_folder.log(f"generated text: {source}")
        for section, sources in kind.text_sources.items():
            drawn = ", ".join(f"{source.name} {source.sequences}" for source in sources)
            run_folder.log(f"{section}: windows of {drawn}")
        for notice in notices.expected(recipe, dense.family, dense.skeleton):
            run_folder.log(notice)
            observer.warn(notice)
        run_folder.write(RECIPE, recipes.dump(recipe))
        finished = _stages(context, kind, dense, targets)
        report = report_stage.report_of(finished, recipe, name, run_folder, dense, kind)
        report_stage.write(report, run_folder, dense)
    return report


def follow(recipe: Recipe, *, folder: Path, search: Sequence[Path]) -> None:
    """Prune with the first process of a run, as one of the others that `torchrun` has started.

    Args:
        recipe: As for `run`.
        folder: The run folder, on a disk that all processes see.
        search: As for `run`.

    Raises:
        NumpruneError: as `run`; also if another process has ended.
    """
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    context = Context(recipe, FollowedFolder(folder), Silent())
    dense, kind = open_inputs(recipe, search)
    with ranks.joined():
        pruned_checkpoint(context, kind, dense)


def _stages(context: Context, kind: ModelKind, dense: Dense, targets: Sequence[Target]) -> Finished:
    """Run all stages; provenance is written as soon as a model or artifact is finished."""
    resolved = json.loads(context.recipe.model_dump_json())
    making = Making(context.folder, resolved, running(), describe())
    with ranks.joined():
        pruned = pruned_checkpoint(context, kind, dense)
    pruned = recover(context, kind, dense, pruned)
    making.model(pruned.checkpoint)
    repaired = None if pruned.repaired is None else pruned.repaired.folder
    models = Models(dense, pruned.checkpoint.folder, pruned.checkpoint.key, pruned.plan, repaired)
    exported = tuple(_exported(context, target, models, kind, making) for target in targets)
    validated = validate(context, kind, models, exported)
    measured = benchmark(context, kind, models, exported)
    return Finished(pruned, exported, validated, measured)


def _exported(
    context: Context, target: Target, models: Models, kind: ModelKind, making: Making
) -> Exported:
    exported = export(context, target, models, kind.export)
    for variant, stage in zip(VARIANTS, exported.stages, strict=True):
        making.artifact(stage, variant)
    return exported
