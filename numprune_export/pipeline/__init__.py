"""The whole job, top to bottom: a recipe to a smaller, exported, proven model.

Each stage's output is a folder of the run, made whole or not at all. Its key is a hash of all it
depends on, so that the same command goes on where it was stopped, and a changed recipe redoes only
what the change reaches.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import torch

from numprune_export import recipe as recipes
from numprune_export.metric import Metrics
from numprune_export.pipeline.agreement import unchecked
from numprune_export.pipeline.benchmarking import benchmark
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.exporting import Exported, chosen_targets, export
from numprune_export.pipeline.measured import read_metrics, read_samples, read_warnings
from numprune_export.pipeline.models import VARIANTS, Models
from numprune_export.pipeline.opening import dense_of, subject_of
from numprune_export.pipeline.pruning import Pruned, pruned_checkpoint
from numprune_export.pipeline.score_spread import score_spread
from numprune_export.pipeline.sizes import time_metrics
from numprune_export.pipeline.validating import validate
from numprune_export.progress import Observer
from numprune_export.provenance.code import running
from numprune_export.provenance.licence import licence_of
from numprune_export.provenance.publishing import publish_card
from numprune_export.provenance.record import Making
from numprune_export.recipe import Recipe
from numprune_export.report.environment import describe
from numprune_export.report.html import page
from numprune_export.report.markdown import render
from numprune_export.report.schema import ArtifactSummary, Report, measurements, widths
from numprune_export.report.store import to_json
from numprune_export.report.verdict import summarize
from numprune_export.run_folder import RECIPE, RunFolder, open_folder
from numprune_export.shared_folder import SharedFolder


def run(
    recipe: Recipe,
    *,
    name: str,
    folder: Path,
    search: Sequence[Path],
    observer: Observer,
    shared: Path | None = None,
) -> Report:
    """Do the whole job, or what is left of it.

    Args:
        recipe: What to do.
        name: Of the recipe, for the report.
        folder: The run folder: new, empty, or an earlier run's.
        search: Folders that relative paths in the recipe are looked up in, in order.
        observer: Told of progress.
        shared: A folder for the stages that say nothing of the budget; other runs find them there.

    Returns:
        The report, also written as report.json, report.md and report.html.

    Raises:
        NumpruneError: one of its kinds; see `errors`. Finished stages stay for the next try.
    """
    targets = chosen_targets(recipe)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    with open_folder(folder) as run_folder:
        lent = None if shared is None else SharedFolder(shared)
        context = Context(recipe, run_folder, observer, lent)
        dense = dense_of(recipe, search)
        subject = subject_of(recipe, dense, search)
        run_folder.write(RECIPE, recipes.dump(recipe))

        resolved = json.loads(recipe.model_dump_json())
        making = Making(run_folder, resolved, running(), describe())
        pruned = pruned_checkpoint(context, subject, dense)
        making.model(pruned.checkpoint)
        models = Models(dense, pruned.checkpoint.folder, pruned.checkpoint.key, pruned.plan)
        exported = []
        for target in targets:
            exported.append(export(context, target, models, subject.export))
            for variant, stage in zip(VARIANTS, exported[-1].stages, strict=True):
                making.artifact(stage, variant)
        validated = validate(context, subject, models, exported)
        measured = benchmark(context, subject, models, exported)

        stages = [
            *pruned.stages,
            *(one for each in exported for one in each.stages),
            *validated,
            measured,
        ]
        metrics: Metrics = {}
        for stage in validated:
            metrics |= read_metrics(stage)
        metrics |= pruned.budget | read_metrics(measured)
        metrics |= time_metrics(stages)
        report = _report(recipe, name, run_folder, pruned, exported, metrics)
        report = report.model_copy(
            update={
                "warnings": read_warnings(measured),
                "scores": score_spread(pruned.scored, pruned.plan),
                "latency_samples": read_samples(measured),
                "dense_sha256": dense.fingerprint,
                "evaluation_sha256": subject.evaluation_key[0],
            }
        )
        publish_card(run_folder, report, licence_of(dense.source))
        run_folder.write("report.json", to_json(report))
        run_folder.write("report.md", render(report))
        run_folder.write("report.html", page.render(report))
    return report


def _report(
    recipe: Recipe,
    name: str,
    folder: RunFolder,
    pruned: Pruned,
    exported: Sequence[Exported],
    metrics: Metrics,
) -> Report:
    found = measurements(metrics)
    missing = {name: why for one in exported for name, why in unchecked(one).items()}
    return Report(
        created=datetime.now(timezone.utc),
        recipe_name=name,
        summary=summarize(found, missing),
        metrics=found,
        not_run=missing,
        plan=widths(pruned.plan),
        recipe=json.loads(recipe.model_dump_json()),
        environment=describe(),
        artifacts={
            f"{one.target.name}.{variant}": ArtifactSummary.of(artifact, folder.path)
            for one in exported
            for variant, artifact in one.artifacts.items()
        },
    )
