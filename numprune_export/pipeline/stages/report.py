"""The report of a finished run: report.json, report.md, report.html, and the model card."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from numprune_export.core.metric import Metrics
from numprune_export.core.run_folder import REPORT, RunFolder
from numprune_export.core.stage import Stage
from numprune_export.measure.environment import describe
from numprune_export.models.checkpoint.tensor_check import leftovers
from numprune_export.numerics.arithmetic import stated
from numprune_export.numerics.matmul_precision import multiplies
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
    StageFigures,
    measurements,
    widths,
)
from numprune_export.report.store import to_json
from numprune_export.report.verdict import summarize


@dataclass(frozen=True)
class Finished:
    """Results of all stages of a run."""

    pruned: Pruned
    exported: tuple[Exported, ...]
    validated: tuple[Stage, ...]
    measured: Stage

    @property
    def stages(self) -> list[Stage]:
        """In the order of the run."""
        exports = [stage for artifacts in self.exported for stage in artifacts.stages]
        return [*self.pruned.stages, *exports, *self.validated, self.measured]

    def metrics(self) -> Metrics:
        metrics: Metrics = {}
        for stage in self.validated:
            metrics |= read_metrics(stage)
        metrics |= self.pruned.budget | read_metrics(self.measured)
        return metrics | time_metrics(self.stages)


def report_of(
    finished: Finished,
    recipe: Recipe,
    name: str,
    folder: RunFolder,
    dense: Dense,
    kind: ModelKind,
) -> Report:
    """The report of a run; `name` is the name of the recipe."""
    metrics = measurements(finished.metrics())
    missing = {
        name: reason
        for artifacts in finished.exported
        for name, reason in unchecked(artifacts).items()
    }
    plan, saved = finished.pruned.plan, finished.pruned.checkpoint.folder
    result_notices = notices.of_result(recipe, dense.family, dense.skeleton, saved)
    return Report(
        created=datetime.now(timezone.utc),
        recipe_name=name,
        summary=summarize(metrics, missing, finished.pruned.warnings),
        metrics=metrics,
        plan_warnings=finished.pruned.warnings,
        warnings=(
            *result_notices,
            *dense.warnings,
            *_unused_tensors(dense),
            *(
                notice
                for stage in finished.stages
                for notice in ([] if stage.cost is None else stage.cost.notices(stage.name))
            ),
            *read_warnings(finished.measured),
        ),
        not_run=missing,
        plan=widths(plan),
        scores=score_spread(finished.pruned.scored, plan),
        latency_samples=read_samples(finished.measured),
        stages={stage.name: StageFigures.of(stage) for stage in finished.stages},
        recipe=json.loads(recipe.model_dump_json()),
        dense_sha256=dense.fingerprint,
        evaluation_sha256=kind.evaluation_key[0],
        precision=stated(
            dense.device, dense.dtype, multiplies(recipe.matmul_precision, dense.device)
        ),
        texts=dict(kind.text_sources),
        environment=describe(),
        artifacts={
            f"{exported.target.name}.{variant}": ArtifactSummary.of(artifact, folder.path)
            for exported in finished.exported
            for variant, artifact in exported.artifacts.items()
        },
    )


def _unused_tensors(dense: Dense) -> list[str]:
    """A warning about tensors that the dense model's class does not read."""
    names = leftovers(dense.source.weights, dense.source.model_type)
    if not names:
        return []
    return [
        f"{len(names)} tensors of a pre-training head, the first is `{names[0]}`, were not loaded:"
        " the model has a task head instead"
    ]


def write(report: Report, folder: RunFolder, dense: Dense) -> None:
    """Write the report in all formats: the model card first, the run's manifest last."""
    licence = licence_of(dense.source)
    publish_card(folder, report, licence)
    publish_sbom(folder, report, licence)
    folder.write(REPORT, to_json(report))
    folder.write(pages.markdown_of(Path(REPORT)).name, render(report))
    folder.write(pages.html_of(Path(REPORT)).name, page.render(report))
    run_manifest.write(folder)


def score_spread(scored: Stage, plan: Plan) -> dict[str, SiteScores]:
    """Quantiles of the scores of kept and of removed units, by site.

    Args:
        scored: Scores of the dense model: the first round's.
        plan: Of the dense model.
    """
    columns = read_scores(scored)
    spread = {}
    for site in plan.sites:
        units = columns[site.name].double().reshape(site.units, -1).mean(1)
        spread[site.name] = SiteScores(
            kept=_quantiles(units[list(plan.kept[site.name])]),
            removed=_quantiles(units[list(plan.removed(site))]),
        )
    return spread


def _quantiles(scores: Float[Tensor, " units"]) -> tuple[float, ...]:
    """Quantiles at `QUANTILES`, linearly interpolated; empty if there are no scores."""
    if not len(scores):
        return ()
    at = torch.tensor(QUANTILES, dtype=scores.dtype) / 100
    return tuple(torch.quantile(scores, at).tolist())
