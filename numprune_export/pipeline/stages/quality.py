"""How good models and artifacts are on the evaluation texts, each run in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer
from numprune_export.export.artifact import Device
from numprune_export.measure.reference.precision import computing_in
from numprune_export.pipeline.kinds.kind import Subject
from numprune_export.pipeline.models import Models
from numprune_export.pipeline.stages.export import Exported
from numprune_export.pipeline.stages.measurements import facts_of, runnable
from numprune_export.pipeline.stages.paired_change import Scores, changes


def quality(
    subject: Subject,
    models: Models,
    names: Sequence[str],
    exported: Sequence[Exported],
    device: Device,
    observer: Observer,
) -> dict[str, Scores]:
    """Scores of models in PyTorch and of pruned artifacts, by name.

    Args:
        subject: The texts and their measure.
        models: Where models come from.
        names: Of them: `dense`, `masked`, `pruned`.
        exported: Targets whose pruned artifact is measured, if it can run here.
        device: Where PyTorch computes.
        observer: Told of texts done.
    """
    here = runnable(exported)
    observer.expect((len(names) + len(here)) * subject.evaluated)
    found: dict[str, Scores] = {}
    for name in names:
        model = models.masked() if name == "masked" else getattr(models, name)
        under = {"runtime": f"torch {torch.__version__}", "device": device}
        with computing_in(model, device=device) as placed, subject.reference(placed) as runner:
            found[name] = subject.scores(runner, under, observer)
    for one in here:
        with subject.opened(one.target.exporter, one.artifacts["pruned"]) as runner:
            found[one.target.name] = subject.scores(runner, facts_of(one), observer)
    return found


def quality_metrics(found: Mapping[str, Scores]) -> Metrics:
    """`quality.<score>.<name>`, by score, the one that counts first."""
    scores = dict.fromkeys(score for model in found.values() for score in model.metrics)
    return {
        f"quality.{score}.{name}": model.metrics[score]
        for score in scores
        for name, model in found.items()
    }


def change_metrics(found: Mapping[str, Scores], dense: Scores) -> Metrics:
    """`change.<score>.<name>`: minus the dense model's, where both were scored on the same examples."""
    return {
        f"change.{score}.{name}": change
        for name, model in found.items()
        for score, change in changes(model, dense).items()
    }
