"""report.json: everything a run measured, and all that is needed to judge it. Versioned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AwareDatetime, ConfigDict, Field, JsonValue

from numprune_export.core.settings import Strict
from numprune_export.measure.environment import Environment

if TYPE_CHECKING:  # a report is read without numpy and torch
    from pathlib import Path

    from numprune_export.core.metric import Metric
    from numprune_export.export.artifact import Artifact
    from numprune_export.models.site import Site
    from numprune_export.pruning.plan import Plan

FORMAT_VERSION = 1

Number = Annotated[float, Field(allow_inf_nan=True)]
"""JSON has no NaN or infinity: they are written as the strings `NaN`, `Infinity`, `-Infinity`."""


class Measurement(Strict):
    """One `Metric` as stored."""

    model_config = ConfigDict(ser_json_inf_nan="strings", allow_inf_nan=True)

    value: Number
    unit: str
    samples: int
    low: Number | None = None
    """Lower end of a 95 % confidence interval, where there is one."""
    high: Number | None = None
    conditions: dict[str, JsonValue] = Field(default_factory=dict)

    @classmethod
    def of(cls, metric: Metric) -> Measurement:
        return cls.model_validate(metric.to_json())


class SiteWidth(Strict):
    """How much of one site stays: heads or KV groups of an attention, channels of an MLP."""

    site: str
    kept: int
    units: int
    heads_per_unit: int | None = None
    """Query heads that go with a unit of an attention; None: no attention, or an older report."""
    kept_units: tuple[int, ...] | None = None
    """Which units of an attention stay; None as above."""
    groups: tuple[int, ...] = ()
    """Sizes of the groups of neighbouring units that share a key/value head; empty: none shares."""


QUANTILES = (0, 5, 25, 50, 75, 95, 100)
"""Percent."""


class SiteScores(Strict):
    """How the scores of what stays and of what goes lie in one site of the dense model."""

    model_config = ConfigDict(ser_json_inf_nan="strings", allow_inf_nan=True)

    kept: tuple[Number, ...]
    """At `QUANTILES`; empty where nothing stays."""
    removed: tuple[Number, ...]
    """At `QUANTILES`; empty where nothing goes."""


class ArtifactSummary(Strict):
    """One exported model."""

    target: str
    folder: str
    """Relative to the run folder."""
    entry: str
    size_bytes: int
    files: dict[str, str]
    """Relative name to sha256."""
    facts: dict[str, JsonValue]

    @classmethod
    def of(cls, artifact: Artifact, run_folder: Path) -> ArtifactSummary:
        return cls(
            target=artifact.target,
            folder=artifact.folder.resolve().relative_to(run_folder.resolve()).as_posix(),
            entry=artifact.entry,
            size_bytes=artifact.size_bytes,
            files=dict(artifact.files),
            facts=dict(artifact.facts),
        )


class Report(Strict):
    """One run. `metrics` is flat: dotted name to measurement."""

    format_version: Literal[1] = 1
    created: AwareDatetime
    recipe_name: str
    summary: str
    """The verdict, one sentence."""
    metrics: dict[str, Measurement]
    plan_warnings: tuple[str, ...] = ()
    """What a reader should know of the plan: that it was edited by hand, for example."""
    warnings: tuple[str, ...] = ()
    """What a reader of the numbers should know: clocks held down by heat, for example."""
    not_run: dict[str, str] = Field(default_factory=dict)
    """What was made but could not be run where the report was made, and why: a target, or the graph
    behind an engine, `<target>-graph`."""
    plan: tuple[SiteWidth, ...]
    scores: dict[str, SiteScores] = Field(default_factory=dict)
    """By site; older reports do not have them."""
    latency_samples: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Wall times in ms in the order of the rounds, by what the names of the metrics begin with,
    `latency.onnx.decode.pruned`: index i of two of one phase is one round. Older reports do not
    have them."""
    recipe: dict[str, JsonValue]
    dense_sha256: str | None = None
    """Over the dense model's configuration, weights and tokenizer; older reports do not have it."""
    evaluation_sha256: str | None = None
    """Over the tokens (and labels) that quality was measured on; older reports do not have it."""
    environment: Environment
    artifacts: dict[str, ArtifactSummary]
    """By `<target>.<variant>`."""

    @property
    def all_warnings(self) -> tuple[str, ...]:
        """Of the plan, and of the numbers."""
        return self.plan_warnings + self.warnings


def measurements(metrics: Mapping[str, Metric]) -> dict[str, Measurement]:
    return {name: Measurement.of(metric) for name, metric in metrics.items()}


def widths(plan: Plan) -> tuple[SiteWidth, ...]:
    return tuple(_width(site, plan.kept[site.name]) for site in plan.sites)


def _width(site: Site, kept: Sequence[int]) -> SiteWidth:
    found = SiteWidth(site=site.name, kept=len(kept), units=site.units)
    if site.kind != "attention":
        return found
    return found.model_copy(
        update={
            "heads_per_unit": _heads_per_unit(site),
            "kept_units": tuple(kept),
            "groups": site.groups,
        }
    )


def _heads_per_unit(site: Site) -> int:
    """By the rows that a unit has in the query and in the key."""
    query, key = site.producers[:2]
    return query.width // key.width
