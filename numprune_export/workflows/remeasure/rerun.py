"""Validate and benchmark a finished run again, with the stages of the pipeline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from numprune_export.core.errors import DeviceError
from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer, shown
from numprune_export.pipeline.exported import Exported, runnable
from numprune_export.pipeline.kinds.kind import Ideal
from numprune_export.pipeline.stages import validate as validate_stage
from numprune_export.pipeline.stages.benchmark import measure
from numprune_export.pipeline.stages.measurements import size_metrics
from numprune_export.pipeline.stages.parity import unchecked
from numprune_export.recipe import parse
from numprune_export.report.schema import Report
from numprune_export.workflows.remeasure.finished_run import FinishedRun
from numprune_export.workflows.remeasure.inputs import RunInputs, reopen
from numprune_export.workflows.remeasure.new_report import new_report

DENSE = "dense model"


@dataclass(frozen=True)
class Protocol:
    """Changes to the benchmark settings of a recipe; None: no change."""

    samples: int | None = None
    threads: int | None = None
    targets: tuple[str, ...] = ()
    """Targets to measure; empty: all targets of the run."""

    def changes(self) -> dict[str, int]:
        given = {"samples": self.samples, "threads": self.threads}
        return {key: value for key, value in given.items() if value is not None}


def validate(run: FinishedRun, search: Sequence[Path], observer: Observer) -> Report:
    """Measure quality and parity of a run's files.

    If the dense model is missing, metrics that need it are skipped and listed in `not_run`.

    Raises:
        ParityError: an artifact differs from PyTorch by more than the recipe's tolerance.
        NumpruneError: an input is missing or differs; see `reopen`.
    """
    with shown(observer, "validate"):
        inputs = reopen(run, search)
        _set_threads(run)
        metrics, exported = _validated(run, inputs, observer), run.exported()
    missing = _missing(inputs, exported)
    kept = ["quality", "change", "parity"] + (["size"] if inputs.dense_missing is None else [])
    return new_report(run.report, run.recipe, metrics, kept, not_run=missing)


def _validated(run: FinishedRun, inputs: RunInputs, observer: Observer) -> Metrics:
    exported, limits, kind = run.exported(), run.recipe.parity, inputs.kind
    models = inputs.models
    device = validate_stage.judging_device(models, exported)
    if inputs.dense_missing is not None:
        return validate_stage.of_pruned(limits, kind, models, exported, device, observer, None)
    metrics, dense = validate_stage.of_dense(limits, kind, models, exported, device, observer)
    return {
        **size_metrics(models, exported),
        **kind.work(models),
        **metrics,
        **validate_stage.of_pruned(limits, kind, models, exported, device, observer, dense),
    }


def benchmark(
    run: FinishedRun, protocol: Protocol, search: Sequence[Path], observer: Observer
) -> Report:
    """Measure latency and memory of dense and pruned artifacts, and of PyTorch.

    Raises:
        RecipeError: a setting is not allowed, or the run has no such target.
        DeviceError: no artifact of the run can run here.
        NumpruneError: an input is missing or differs; see `reopen`.
    """
    run = _changed(run, protocol.changes())
    exported = run.exported(protocol.targets)
    with shown(observer, "benchmark"):
        inputs = reopen(run, search)
        _set_threads(run)
        _require_runnable(run, inputs, exported)
        ideal = None if inputs.dense_missing is None else _known_ideal(run.report)
        result = measure(inputs.kind, inputs.models, exported, observer, ideal)
    missing = _missing(inputs, exported)
    for name in run.targets:
        if protocol.targets and name not in protocol.targets:
            missing[name] = "not requested"
    samples = {name: tuple(series.wall_ms.tolist()) for name, series in result.samples.items()}
    return new_report(
        run.report,
        run.recipe,
        result.metrics,
        ["latency", "memory", "gpu"],
        warnings=result.warnings,
        not_run=missing,
        samples=samples,
    )


def _require_runnable(run: FinishedRun, inputs: RunInputs, exported: Sequence[Exported]) -> None:
    if runnable(exported) or (inputs.dense_missing is None and run.recipe.benchmark.reference):
        return
    why = "; ".join(f"{entry.target.name}: {entry.target.cannot_run}" for entry in exported)
    raise DeviceError(
        f"no artifact of `{run.folder}` can run here: {why or 'it has no artifacts'}",
        hint="measure it on the machine it was built for",
    )


def _changed(run: FinishedRun, changes: Mapping[str, Any]) -> FinishedRun:
    if not changes:
        return run
    content = json.loads(run.recipe.model_dump_json())
    content["benchmark"] |= changes
    return replace(run, recipe=parse(content, f"{run.folder}"))


def _set_threads(run: FinishedRun) -> None:
    if run.recipe.threads is not None:
        torch.set_num_threads(run.recipe.threads)


def _known_ideal(report: Report) -> Ideal:
    """Ideal speed-ups from the report; they depend only on the shapes of both models."""
    known = {}
    for name, measurement in report.metrics.items():
        kind, *middle, last = name.split(".")
        if kind == "latency" and last == "ideal":
            known[".".join(middle[1:])] = measurement.value
    return known


def _missing(inputs: RunInputs, exported: Sequence[Exported]) -> dict[str, str]:
    missing = {name: why for entry in exported for name, why in unchecked(entry).items()}
    if inputs.dense_missing is not None:
        missing |= {DENSE: inputs.dense_missing, "torch": "its rows need the dense model"}
    return missing
