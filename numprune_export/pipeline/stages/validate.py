"""The validate stage: sizes, quality from the dense model to each artifact, and their parity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer
from numprune_export.core.run_folder import Stage
from numprune_export.export.artifact import Device
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.kinds.kind import Subject
from numprune_export.pipeline.models import Models
from numprune_export.pipeline.stages import parity as parity_stage
from numprune_export.pipeline.stages.export import Exported
from numprune_export.pipeline.stages.measurements import (
    dense_keys,
    keys,
    read_metrics,
    reference_device,
    write_metrics,
)
from numprune_export.pipeline.stages.paired_change import Scores, read_resamples, write_resamples
from numprune_export.pipeline.stages.quality import change_metrics, quality, quality_metrics
from numprune_export.pipeline.stages.sizes import size_metrics
from numprune_export.recipe import Parity


def validate(
    context: Context, subject: Subject, models: Models, exported: Sequence[Exported]
) -> tuple[Stage, Stage]:
    """Everything about quality and exactness that this machine can measure: first what is the same
    for every budget, then the rest.

    Raises:
        ParityError: an artifact differs from PyTorch by more than the recipe's tolerance.
    """
    limits, device, observer = context.recipe.parity, reference_device(exported), context.observer
    settings = [subject.evaluation_key, limits.model_dump(), device]
    settings += [] if subject.tasks_key is None else [subject.tasks_key]

    def make_dense(folder: Path) -> None:
        metrics, scores = of_dense(limits, subject, models, exported, device, observer)
        write_metrics(folder, metrics)
        write_resamples(folder, scores)

    inputs = [models.key("dense"), *dense_keys(exported), *settings]
    dense = context.stage("validate.dense", "validate-dense", inputs, make_dense, shared=True)

    def make(folder: Path) -> None:
        metrics = size_metrics(models, exported) | subject.work(models)
        metrics |= of_pruned(limits, subject, models, exported, device, observer, _scores(dense))
        write_metrics(folder, metrics)

    inputs = [*keys(models, exported), *settings]
    return dense, context.stage("validate", "validate", inputs, make)


def _scores(dense: Stage) -> Scores:
    """Of the dense model, as its stage wrote them."""
    resamples, metrics = read_resamples(dense.folder), read_metrics(dense)
    return Scores({score: metrics[f"quality.{score}.dense"] for score in resamples}, resamples)


def of_dense(
    limits: Parity,
    subject: Subject,
    models: Models,
    exported: Sequence[Exported],
    device: Device,
    observer: Observer,
) -> tuple[Metrics, Scores]:
    """`quality.*.dense`, `parity.*.dense.*`, and what changes are counted from. Raises as `validate`
    does."""
    observer.expect(len(exported) * subject.compared)
    found = quality(subject, models, ["dense"], [], device, observer)
    metrics = quality_metrics(found)
    for one in exported:
        metrics |= parity_stage.agree(limits, subject, models, one, "dense", device)
        observer.advance(subject.compared)
    return metrics, found["dense"]


def of_pruned(
    limits: Parity,
    subject: Subject,
    models: Models,
    exported: Sequence[Exported],
    device: Device,
    observer: Observer,
    dense: Scores | None,
) -> Metrics:
    """`quality.*` of the pruned model and of its artifacts, and `parity.*` of these; where the dense
    model's scores are given, of the masked model too, and `change.*`. Raises as `validate` does."""
    observer.expect(len(exported) * subject.compared)
    names = ["pruned"] if dense is None else ["masked", "pruned"]
    found = quality(subject, models, names, exported, device, observer)
    metrics = quality_metrics(found) | ({} if dense is None else change_metrics(found, dense))
    for one in exported:
        metrics |= parity_stage.agree(limits, subject, models, one, "pruned", device)
        observer.advance(subject.compared)
    return metrics
