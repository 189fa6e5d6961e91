"""A run whose stages are all done, as a report: report.json, report.md, report.html, the model card."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone

from numprune_export.core.metric import Metrics
from numprune_export.core.run_folder import RunFolder, Stage
from numprune_export.measure.environment import describe
from numprune_export.pipeline.kinds.kind import Subject
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.stages.compensate import Pruned
from numprune_export.pipeline.stages.export import Exported
from numprune_export.pipeline.stages.measurements import read_metrics, read_samples, read_warnings
from numprune_export.pipeline.stages.parity import unchecked
from numprune_export.pipeline.stages.score_spread import score_spread
from numprune_export.pipeline.stages.sizes import time_metrics
from numprune_export.provenance.licence import licence_of
from numprune_export.provenance.publishing import publish_card, publish_sbom
from numprune_export.recipe import Recipe
from numprune_export.report.html import page
from numprune_export.report.markdown import render
from numprune_export.report.schema import ArtifactSummary, Report, measurements, widths
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
    subject: Subject,
) -> Report:
    """All that there is to tell of a run; `name` is the recipe's."""
    found = measurements(finished.metrics())
    missing = {name: why for one in finished.exported for name, why in unchecked(one).items()}
    plan = finished.pruned.plan
    return Report(
        created=datetime.now(timezone.utc),
        recipe_name=name,
        summary=summarize(found, missing, finished.pruned.warnings),
        metrics=found,
        plan_warnings=finished.pruned.warnings,
        warnings=read_warnings(finished.measured),
        not_run=missing,
        plan=widths(plan),
        scores=score_spread(finished.pruned.scored, plan),
        latency_samples=read_samples(finished.measured),
        recipe=json.loads(recipe.model_dump_json()),
        dense_sha256=dense.fingerprint,
        evaluation_sha256=subject.evaluation_key[0],
        environment=describe(),
        artifacts={
            f"{one.target.name}.{variant}": ArtifactSummary.of(artifact, folder.path)
            for one in finished.exported
            for variant, artifact in one.artifacts.items()
        },
    )


def write(report: Report, folder: RunFolder, dense: Dense) -> None:
    """In all its forms, the model card first."""
    licence = licence_of(dense.source)
    publish_card(folder, report, licence)
    publish_sbom(folder, report, licence)
    folder.write("report.json", to_json(report))
    folder.write("report.md", render(report))
    folder.write("report.html", page.render(report))
