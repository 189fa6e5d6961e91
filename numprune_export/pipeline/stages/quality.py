"""How good models and artifacts are on the evaluation texts, each run in the same way."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer
from numprune_export.export.runner import Device
from numprune_export.measure.reference.precision import computing_in
from numprune_export.pipeline.kinds.kind import Subject
from numprune_export.pipeline.models import Models
from numprune_export.pipeline.stages.export import Exported
from numprune_export.pipeline.stages.measurements import facts_of, runnable


def quality(
    subject: Subject,
    models: Models,
    names: Sequence[str],
    exported: Sequence[Exported],
    device: Device,
    observer: Observer,
) -> Metrics:
    """`quality.<score>.<name>` of models in PyTorch and of pruned artifacts, by score, the one that
    counts first.

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
    found: dict[str, Metrics] = {}
    for name in names:
        model = models.masked() if name == "masked" else getattr(models, name)
        under = {"runtime": f"torch {torch.__version__}", "device": device}
        with computing_in(model, device=device) as placed, subject.reference(placed) as runner:
            found[name] = subject.scores(runner, under, observer)
    for one in here:
        with subject.opened(one.target.exporter, one.artifacts["pruned"]) as runner:
            found[one.target.name] = subject.scores(runner, facts_of(one), observer)
    scores = dict.fromkeys(score for one in found.values() for score in one)
    return {
        f"quality.{score}.{name}": one[score] for score in scores for name, one in found.items()
    }
