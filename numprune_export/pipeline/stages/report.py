"""A run whose stages are all done, as a report: report.json, report.md, report.html, the model card."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from numprune_export.core.metric import Metrics
from numprune_export.core.run_folder import REPORT, RunFolder, Stage
from numprune_export.measure.environment import describe
from numprune_export.models.checkpoint.tensor_check import leftovers
from numprune_export.pipeline import notices
from numprune_export.pipeline.exported import Exported
from numprune_export.pipeline.kinds.kind import ModelKind
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.stages.compensate import Pruned
from numprune_export.pipeline.stages.measurements import (
    read_metrics,
    read_samples,
    read_warnings,
    time_metrics,
)
from numprune_export.pipeline.stages.parity import unchecked
from numprune_export.pipeline.stages.score import read_scores
from numprune_export.provenance import run_manifest
from numprune_export.provenance.licence import licence_of
from numprune_export.provenance.publishing import publish_card, publish_sbom
from numprune_export.pruning.plan import Plan
from numprune_export.recipe import Recipe
from numprune_export.report import pages
from numprune_export.report.html import page
from numprune_export.report.markdown import render
from numprune_export.report.schema import (
    QUANTILES,
    ArtifactSummary,
    Report,
    SiteScores,
    measurements,
    widths,
)
from numprune_export.report.store import to_json
from numprune_export.report.verdict import summarize


@dataclass(frozen=True)
class Finished:
    """What the stages of a run made and found."""

    pruned: Pruned
    exported: tuple[Exported, ...]
    validated: tuple[Stage, ...]
    measured: Stage

    @property
    def stages(self) -> list[Stage]:
        """In the order of the run."""
        made = [stage for one in self.exported for stage in one.stages]
        return [*self.pruned.stages, *made, *self.validated, self.measured]

    def metrics(self) -> Metrics:
        found: Metrics = {}
        for stage in self.validated:
            found |= read_metrics(stage)
        found |= self.pruned.budget | read_metrics(self.measured)
        return found | time_metrics(self.stages)


def report_of(
    finished: Finished,
    recipe: Recipe,
    name: str,
    folder: RunFolder,
    dense: Dense,
    kind: ModelKind,
) -> Report:
    """All that there is to tell of a run; `name` is the recipe's."""
    found = measurements(finished.metrics())
    missing = {name: why for one in finished.exported for name, why in unchecked(one).items()}
    plan, saved = finished.pruned.plan, finished.pruned.checkpoint.folder
    told = notices.of_result(recipe, dense.family, dense.skeleton, saved)
    return Report(
        created=datetime.now(timezone.utc),
        recipe_name=name,
        summary=summarize(found, missing, finished.pruned.warnings),
        metrics=found,
        plan_warnings=finished.pruned.warnings,
        warnings=(*told, *dense.warnings, *_left_out(dense), *read_warnings(finished.measured)),
        not_run=missing,
        plan=widths(plan),
        scores=score_spread(finished.pruned.scored, plan),
        latency_samples=read_samples(finished.measured),
        recipe=json.loads(recipe.model_dump_json()),
        dense_sha256=dense.fingerprint,
        evaluation_sha256=kind.evaluation_key[0],
        environment=describe(),
        artifacts={
            f"{one.target.name}.{variant}": ArtifactSummary.of(artifact, folder.path)
            for one in finished.exported
            for variant, artifact in one.artifacts.items()
        },
    )


def _left_out(dense: Dense) -> list[str]:
    """A warning of the tensors that the dense model's class does not read."""
    names = leftovers(dense.source.weights, dense.source.model_type)
    if not names:
        return []
    return [
        f"{len(names)} tensors of a pre-training head, the first is `{names[0]}`, were left out:"
        " the model has a task head in its place"
    ]


def write(report: Report, folder: RunFolder, dense: Dense) -> None:
    """In all its forms, the model card first; the run's manifest last."""
    licence = licence_of(dense.source)
    publish_card(folder, report, licence)
    publish_sbom(folder, report, licence)
    folder.write(REPORT, to_json(report))
    folder.write(pages.markdown_of(Path(REPORT)).name, render(report))
    folder.write(pages.html_of(Path(REPORT)).name, page.render(report))
    run_manifest.write(folder)


def score_spread(scored: Stage, plan: Plan) -> dict[str, SiteScores]:
    """By site.

    Args:
        scored: Scores of the dense model: the first round's.
        plan: Of the dense model.
    """
    columns = read_scores(scored)
    found = {}
    for site in plan.sites:
        units = columns[site.name].double().reshape(site.units, -1).mean(1)
        found[site.name] = SiteScores(
            kept=_quantiles(units[list(plan.kept[site.name])]),
            removed=_quantiles(units[list(plan.removed(site))]),
        )
    return found


def _quantiles(scores: Float[Tensor, " units"]) -> tuple[float, ...]:
    """At `QUANTILES`, linear between neighbours; none of nothing."""
    if not len(scores):
        return ()
    at = torch.tensor(QUANTILES, dtype=scores.dtype) / 100
    return tuple(torch.quantile(scores, at).tolist())
