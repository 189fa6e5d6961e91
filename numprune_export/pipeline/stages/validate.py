"""The validate stages: size, quality of models and artifacts, and parity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer
from numprune_export.core.stage import Stage
from numprune_export.measure.quality.paired_change import (
    Scores,
    changes,
    read_nats,
    read_resamples,
    write_paired,
)
from numprune_export.measure.quality.sources import ratios
from numprune_export.models.device import on
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.exported import Exported, facts_of, reference_device, runnable
from numprune_export.pipeline.kinds.kind import ModelKind
from numprune_export.pipeline.models import Models
from numprune_export.pipeline.stages import parity as parity_stage
from numprune_export.pipeline.stages.measurements import (
    dense_keys,
    keys,
    read_metrics,
    size_metrics,
    write_metrics,
)
from numprune_export.recipe import Parity


def validate(
    context: Context, kind: ModelKind, models: Models, exported: Sequence[Exported]
) -> tuple[Stage, Stage]:
    """Measure size, quality and parity, as far as targets can run here.

    The first stage has the results that do not depend on the budget, the second all others.

    Raises:
        ParityError: an artifact differs from PyTorch by more than the recipe's tolerance.
    """
    limits, observer = context.recipe.parity, context.observer
    device = judging_device(models, exported)
    settings = [kind.evaluation_key, limits.model_dump(), device.type]
    settings += [] if kind.tasks_key is None else [kind.tasks_key]

    def make_dense(folder: Path) -> None:
        metrics, scores = of_dense(limits, kind, models, exported, device, observer)
        write_metrics(folder, metrics)
        write_paired(folder, scores)

    inputs = [models.key("dense"), *dense_keys(exported), *settings]
    dense = context.stage("validate.dense", "validate-dense", inputs, make_dense, shared=True)

    def make(folder: Path) -> None:
        metrics = size_metrics(models, exported) | kind.work(models)
        metrics |= of_pruned(limits, kind, models, exported, device, observer, _scores(dense))
        write_metrics(folder, metrics)

    inputs = [*keys(models, exported), *settings]
    return dense, context.stage("validate", "validate", inputs, make)


def judging_device(models: Models, exported: Sequence[Exported]) -> torch.device:
    """Device of the PyTorch models whose quality is measured and that artifacts are compared with:
    the recipe's, or the GPU if a runnable artifact uses it."""
    if models.device.type == "cpu" and reference_device(exported) == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return models.device


def _scores(dense: Stage) -> Scores:
    """Scores of the dense model, read from its stage."""
    resamples, metrics = read_resamples(dense.folder), read_metrics(dense)
    own = {score: metrics[f"quality.{score}.dense"] for score in resamples}
    return Scores(own, resamples, read_nats(dense.folder))


def of_dense(
    limits: Parity,
    kind: ModelKind,
    models: Models,
    exported: Sequence[Exported],
    device: torch.device,
    observer: Observer,
) -> tuple[Metrics, Scores]:
    """`quality.*.dense`, `parity.*.dense.*`, and the dense scores, the reference of changes.

    Raises:
        ParityError: as `validate`.
    """
    observer.expect(len(exported) * kind.compared)
    scores = quality(kind, models, ["dense"], [], device, observer)
    metrics = quality_metrics(scores)
    for export in exported:
        metrics |= parity_stage.agree(limits, kind, models, export, "dense", device)
        observer.advance(kind.compared)
    return metrics, scores["dense"]


def of_pruned(
    limits: Parity,
    kind: ModelKind,
    models: Models,
    exported: Sequence[Exported],
    device: torch.device,
    observer: Observer,
    dense: Scores | None,
) -> Metrics:
    """`quality.*` of the pruned model and its artifacts, and `parity.*` of the artifacts.

    With `dense` scores also `quality.*` of the masked model, `change.*`, and, for several text
    sources, `quality.perplexity_ratio.*`.

    Raises:
        ParityError: as `validate`.
    """
    observer.expect(len(exported) * kind.compared)
    names = ["pruned"] if dense is None else models.steps
    scores = quality(kind, models, names, exported, device, observer)
    metrics = quality_metrics(scores)
    if dense is not None:
        metrics |= ratio_metrics(scores, dense) | change_metrics(scores, dense)
    for export in exported:
        metrics |= parity_stage.agree(limits, kind, models, export, "pruned", device)
        observer.advance(kind.compared)
    return metrics


def quality(
    kind: ModelKind,
    models: Models,
    names: Sequence[str],
    exported: Sequence[Exported],
    device: torch.device,
    observer: Observer,
) -> dict[str, Scores]:
    """Scores of models in PyTorch and of pruned artifacts, by name.

    Args:
        kind: The kind of model, with its evaluation texts.
        models: The models of the run.
        names: PyTorch models to score: `dense`, or some of `Models.steps`.
        exported: Targets whose pruned artifact is scored, if it can run here.
        device: Device of the PyTorch models.
        observer: Notified of texts done.
    """
    here = runnable(exported)
    observer.expect((len(names) + len(here)) * kind.evaluated)
    scores: dict[str, Scores] = {}
    for name in names:
        model = on(models.on_device(name), device)
        under = {"runtime": f"torch {torch.__version__}", "device": device.type}
        with kind.reference(model) as runner:
            scores[name] = kind.scores(runner, under, observer)
    for export in here:
        with kind.opened(export.target.exporter, export.artifacts["pruned"]) as runner:
            scores[export.target.name] = kind.scores(runner, facts_of(export), observer)
    return scores


def quality_metrics(scores: Mapping[str, Scores]) -> Metrics:
    """`quality.<score>.<name>`, grouped by score; the primary score is first."""
    names = dict.fromkeys(score for model in scores.values() for score in model.metrics)
    return {
        f"quality.{score}.{name}": model.metrics[score]
        for score in names
        for name, model in scores.items()
        if score in model.metrics
    }


def ratio_metrics(scores: Mapping[str, Scores], dense: Scores) -> Metrics:
    """`quality.perplexity_ratio.<source>.<name>`, of `mean` and of `worst`; see `ratios`."""
    by_model = {name: Scores(ratios(model, dense)) for name, model in scores.items()}
    return quality_metrics(by_model)


def change_metrics(scores: Mapping[str, Scores], dense: Scores) -> Metrics:
    """`change.<score>.<name>`: the difference from the dense model on the same examples."""
    return {
        f"change.{score}.{name}": change
        for name, model in scores.items()
        for score, change in changes(model, dense).items()
    }
