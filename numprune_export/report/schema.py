"""Schema of report.json (versioned): all measurements of a run and their conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AwareDatetime, ConfigDict, Field, JsonValue

from numprune_export.core.settings import Strict
from numprune_export.measure.environment import Environment

if TYPE_CHECKING:  # reading a report must not import numpy or torch
    from pathlib import Path

    from numprune_export.core.metric import Metric
    from numprune_export.core.stage import Stage
    from numprune_export.export.artifact import Artifact
    from numprune_export.models.site import Site
    from numprune_export.pruning.plan import Plan

FORMAT_VERSION = 1

Number = Annotated[float, Field(allow_inf_nan=True)]
"""NaN and infinity, which JSON lacks, are written as `"NaN"`, `"Infinity"`, `"-Infinity"`."""


class Measurement(Strict):
    """A `Metric` as stored in report.json."""

    model_config = ConfigDict(ser_json_inf_nan="strings", allow_inf_nan=True)

    value: Number
    unit: str
    samples: int
    low: Number | None = None
    """Lower end of the 95 % confidence interval, if measured."""
    high: Number | None = None
    """Upper end of the 95 % confidence interval, if measured."""
    conditions: dict[str, JsonValue] = Field(default_factory=dict)

    @classmethod
    def of(cls, metric: Metric) -> Measurement:
        return cls.model_validate(metric.to_json())


class SiteWidth(Strict):
    """Kept units of one site: attention heads or KV groups, or MLP channels."""

    site: str
    kept: int
    units: int
    heads_per_unit: int | None = None
    """Query heads per attention unit; None: an MLP, or an older report."""
    kept_units: tuple[int, ...] | None = None
    """Indices of the kept attention units; None: an MLP, or an older report."""
    groups: tuple[int, ...] = ()
    """Sizes of the groups of adjacent units that share a KV head; empty: no sharing."""


QUANTILES = (0, 5, 25, 50, 75, 95, 100)
"""In percent."""


class SiteScores(Strict):
    """Score quantiles of the kept and of the removed units at one site of the dense model."""

    model_config = ConfigDict(ser_json_inf_nan="strings", allow_inf_nan=True)

    kept: tuple[Number, ...]
    """At `QUANTILES`; empty if no unit is kept."""
    removed: tuple[Number, ...]
    """At `QUANTILES`; empty if no unit is removed."""


class StageFigures(Strict):
    """What a stage took when it was computed, in this run or an earlier one."""

    seconds: float
    """Wall time."""
    processor_seconds: float | None = None
    """Of all threads and ended child processes; None: an earlier version computed the stage."""
    host_peak_bytes: int | None = None
    """Peak memory of this process alone where the system tells, else resident memory."""
    device_peak_bytes: int | None = None
    """Peak of PyTorch's tensors on a GPU; None: it used none."""
    batch: int | None = None
    """Texts per batch, where the device had no memory for the recipe's; None: it had."""

    @classmethod
    def of(cls, stage: Stage) -> StageFigures:
        cost = stage.cost
        if cost is None:
            return cls(seconds=stage.seconds)
        return cls(
            seconds=stage.seconds,
            processor_seconds=cost.processor_seconds,
            host_peak_bytes=cost.host_peak_bytes,
            device_peak_bytes=cost.device_peak_bytes,
            batch=cost.halved.get("batch"),
        )


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


class TextSource(Strict):
    """A text source of a language model's calibration or evaluation."""

    name: str
    sequences: int
    """Windows drawn from it."""
    tokens: int
    """Tokens in these windows."""
    share: float | None = None
    """Calibration: the recipe's `share`; None: equal parts."""
    documents: int
    """Files, or rows of a data set or file, that the windows were cut from."""
    rows_read: int | None = None
    """Rows read of a streamed data set, its buffer included; None: read whole."""
    of_calibration: bool = False
    """Evaluation: the calibration has text of the same file or data set."""


class Report(Strict):
    """The report of one run. `metrics` is flat: dotted name to measurement."""

    format_version: Literal[1] = 1
    created: AwareDatetime
    recipe_name: str
    summary: str
    """The verdict in one sentence."""
    metrics: dict[str, Measurement]
    plan_warnings: tuple[str, ...] = ()
    """Warnings about the plan, for example that it was edited by hand."""
    warnings: tuple[str, ...] = ()
    """Warnings about the measurements, for example thermal throttling."""
    not_run: dict[str, str] = Field(default_factory=dict)
    """Reason by name for exports that could not run on this machine: a target, or the graph behind
    an engine, `<target>-graph`."""
    plan: tuple[SiteWidth, ...]
    scores: dict[str, SiteScores] = Field(default_factory=dict)
    """By site; empty in older reports."""
    latency_samples: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Wall times in ms by metric prefix, for example `latency.onnx.decode.pruned`, in round order:
    equal indices of the dense and pruned entries of a phase are the same round. Empty in older
    reports."""
    stages: dict[str, StageFigures] = Field(default_factory=dict)
    """By stage, in the order of the run; empty in older reports."""
    recipe: dict[str, JsonValue]
    dense_sha256: str | None = None
    """Over the dense model's configuration, weights and tokenizer; None in older reports."""
    evaluation_sha256: str | None = None
    """Over the tokens and labels used for quality; None in older reports."""
    precision: dict[str, str] = Field(default_factory=dict)
    """The numbers in which the model was pruned, by step: device, weights, products, residual,
    sums, solves. Empty in older reports."""
    texts: dict[str, tuple[TextSource, ...]] = Field(default_factory=dict)
    """Text sources of `calibration` and `evaluation`; empty for labelled data and in older
    reports."""
    environment: Environment
    artifacts: dict[str, ArtifactSummary]
    """By `<target>.<variant>`."""

    @property
    def all_warnings(self) -> tuple[str, ...]:
        """Warnings about the plan, then about the measurements."""
        return self.plan_warnings + self.warnings


def measurements(metrics: Mapping[str, Metric]) -> dict[str, Measurement]:
    return {name: Measurement.of(metric) for name, metric in metrics.items()}


def widths(plan: Plan) -> tuple[SiteWidth, ...]:
    return tuple(_width(site, plan.kept[site.name]) for site in plan.sites)


def _width(site: Site, kept: Sequence[int]) -> SiteWidth:
    width = SiteWidth(site=site.name, kept=len(kept), units=site.units)
    if site.kind != "attention":
        return width
    return width.model_copy(
        update={
            "heads_per_unit": _heads_per_unit(site),
            "kept_units": tuple(kept),
            "groups": site.groups,
        }
    )


def _heads_per_unit(site: Site) -> int:
    """Ratio of the query rows to the key rows of a unit."""
    query, key = site.producers[:2]
    return query.width // key.width
