"""What the quality of the models of a comparison is measured by, and what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.core.errors import IncomparableError, NumpruneError
from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer
from numprune_export.workflows.remeasure.field import Field
from numprune_export.workflows.remeasure.finished_run import opened
from numprune_export.workflows.remeasure.inputs import reopen
from numprune_export.workflows.remeasure.task_match import same_task
from numprune_export.workflows.remeasure.text_quality import (
    Measure,
    TextPerplexity,
    alike,
    read_text,
    windows_of,
)


def measure_of(
    field: Field, text: Path | None, search: Sequence[Path]
) -> tuple[Measure | None, list[str]]:
    """What quality is measured by, and why there is nothing, in a sentence."""
    first = field.first
    if text is not None:
        if first.kind == "encoder":
            raise IncomparableError(
                "`--text` is for language models: an encoder's quality needs labelled examples",
                hint="leave `--text` out: the examples of the first one's run are taken",
            )
        return TextPerplexity(windows_of(read_text(text), first)), []
    if first.run is None:
        what = "labelled examples" if first.kind == "encoder" else "a text (or give it by `--text`)"
        return None, [f"quality is not measured: `{first.label}` is not of a run that has {what}"]
    try:
        with opened(first.run) as run:
            return _OfRun(reopen(run, search).subject), []
    except IncomparableError:
        raise
    except NumpruneError as error:
        return None, [f"quality is not measured: {error}"]


@dataclass(frozen=True)
class _OfRun:
    """What a run was evaluated on."""

    subject: Any

    @property
    def longest(self) -> int:
        return int(self.subject.calibration.tokens.shape[1])

    @property
    def steps(self) -> int:
        return int(self.subject.evaluated)

    def scores(self, runner: Any, under: Mapping[str, Any], observer: Observer) -> Metrics:
        found: Metrics = self.subject.scores(runner, under, observer).metrics
        return found


def quality_of(field: Field, measure: Measure, observer: Observer) -> tuple[Metrics, list[str]]:
    same, notes = _comparable(field, measure)
    chosen = {key: one for (key, one), fits in zip(field.models.items(), same, strict=True) if fits}
    observer.expect(len(chosen) * measure.steps)
    conditions, found = field.conditions(), dict[str, Metrics]()
    for key, one in chosen.items():
        threads = field.settings.threads
        with one.open(field.device, threads=threads, capacity=measure.longest) as runner:
            found[key] = measure.scores(runner, conditions[key], observer)
    scores = dict.fromkeys(score for one in found.values() for score in one)
    metrics = {
        f"quality.{score}.{key}": one[score] for score in scores for key, one in found.items()
    }
    return metrics, notes


def _comparable(field: Field, measure: Measure) -> tuple[list[bool], list[str]]:
    """Whose quality is measured, and why that of others is not."""
    models = list(field.models.values())
    same, notes = alike(models)
    if field.first.kind == "encoder":
        fit, more = same_task(models, measure.longest)
        same, notes = [a and b for a, b in zip(same, fit, strict=True)], notes + more
    return same, notes
