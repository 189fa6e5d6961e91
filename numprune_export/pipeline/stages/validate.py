"""The validate stage: sizes, quality from the dense model to each artifact, and their parity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer
from numprune_export.core.run_folder import Stage
from numprune_export.export.runner import Device
from numprune_export.measure.reference.precision import computing_in
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.exported import Exported, facts_of, reference_device, runnable
from numprune_export.pipeline.kinds.kind import ModelKind
from numprune_export.pipeline.models import Models
from numprune_export.pipeline.stages import parity as parity_stage
from numprune_export.pipeline.stages.measurements import (
    dense_keys,
    keys,
    size_metrics,
    write_metrics,
)
from numprune_export.recipe import Parity


def validate(
    context: Context, kind: ModelKind, models: Models, exported: Sequence[Exported]
) -> tuple[Stage, Stage]:
    """Everything about quality and exactness that this machine can measure: first what is the same
    for every budget, then the rest.

    Raises:
        ParityError: an artifact differs from PyTorch by more than the recipe's tolerance.
    """
    limits, device, observer = context.recipe.parity, reference_device(exported), context.observer
    settings = [kind.evaluation_key, limits.model_dump(), device]
    settings += [] if kind.tasks_key is None else [kind.tasks_key]

    def make_dense(folder: Path) -> None:
        write_metrics(folder, of_dense(limits, kind, models, exported, device, observer))

    def make(folder: Path) -> None:
        metrics = size_metrics(models, exported)
        metrics |= of_pruned(limits, kind, models, exported, device, observer)
        write_metrics(folder, metrics)

    dense = [models.key("dense"), *dense_keys(exported), *settings]
    return (
        context.stage("validate.dense", "validate-dense", dense, make_dense, shared=True),
        context.stage("validate", "validate", [*keys(models, exported), *settings], make),
    )


def of_dense(
    limits: Parity,
    kind: ModelKind,
    models: Models,
    exported: Sequence[Exported],
    device: Device,
    observer: Observer,
) -> Metrics:
    """`quality.*.dense`, `parity.*.dense.*`. Raises as `validate` does."""
    observer.expect(len(exported))
    metrics = quality(kind, models, ["dense"], [], device, observer)
    for one in exported:
        metrics |= parity_stage.agree(limits, kind, models, one, "dense", device)
        observer.advance(1)
    return metrics


def of_pruned(
    limits: Parity,
    kind: ModelKind,
    models: Models,
    exported: Sequence[Exported],
    device: Device,
    observer: Observer,
    names: Sequence[str] = ("masked", "pruned"),
) -> Metrics:
    """`quality.*` of the masked and the pruned model and of its artifacts, and `parity.*` of these.
    Raises as `validate` does."""
    observer.expect(len(exported))
    metrics = quality(kind, models, names, exported, device, observer)
    for one in exported:
        metrics |= parity_stage.agree(limits, kind, models, one, "pruned", device)
        observer.advance(1)
    return metrics


def quality(
    kind: ModelKind,
    models: Models,
    names: Sequence[str],
    exported: Sequence[Exported],
    device: Device,
    observer: Observer,
) -> Metrics:
    """`quality.<score>.<name>` of models in PyTorch and of pruned artifacts, by score, the one that
    counts first.

    Args:
        kind: The texts and their measure.
        models: Where models come from.
        names: Of them: `dense`, `masked`, `pruned`.
        exported: Targets whose pruned artifact is measured, if it can run here.
        device: Where PyTorch computes.
        observer: Told of texts done.
    """
    here = runnable(exported)
    observer.expect((len(names) + len(here)) * kind.evaluated)
    found: dict[str, Metrics] = {}
    for name in names:
        model = models.masked() if name == "masked" else getattr(models, name)
        under = {"runtime": f"torch {torch.__version__}", "device": device}
        with computing_in(model, device=device) as placed, kind.reference(placed) as runner:
            found[name] = kind.scores(runner, under, observer)
    for one in here:
        with kind.opened(one.target.exporter, one.artifacts["pruned"]) as runner:
            found[one.target.name] = kind.scores(runner, facts_of(one), observer)
    scores = dict.fromkeys(score for one in found.values() for score in one)
    return {
        f"quality.{score}.{name}": one[score] for score in scores for name, one in found.items()
    }
