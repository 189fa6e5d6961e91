"""Validate and benchmark a finished run once more, by the code that a run uses."""

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
from numprune_export.pipeline.exported import Exported, reference_device, runnable
from numprune_export.pipeline.kinds.kind import Ideal
from numprune_export.pipeline.stages import validate as validate_stage
from numprune_export.pipeline.stages.benchmark import measure
from numprune_export.pipeline.stages.measurements import size_metrics
from numprune_export.pipeline.stages.parity import unchecked
from numprune_export.recipe import parse
from numprune_export.report.schema import Report
from numprune_export.workflows.remeasure.finished_run import FinishedRun
from numprune_export.workflows.remeasure.inputs import Again, reopen
from numprune_export.workflows.remeasure.new_report import new_report

DENSE = "dense model"


@dataclass(frozen=True)
class Protocol:
    """What a benchmark does other than the recipe says; None: as it says."""

    samples: int | None = None
    threads: int | None = None
    targets: tuple[str, ...] = ()
    """Those of the run that are measured; empty: all."""

    def changes(self) -> dict[str, int]:
        given = {"samples": self.samples, "threads": self.threads}
        return {key: value for key, value in given.items() if value is not None}


def validate(run: FinishedRun, search: Sequence[Path], observer: Observer) -> Report:
    """Quality and parity of a run's own files.

    Where the dense model is not to be found, all that needs it is left out and `not_run` says so.

    Raises:
        ParityError: an artifact differs from PyTorch by more than the recipe's tolerance.
        NumpruneError: something is missing or another; see `reopen`.
    """
    with shown(observer, "validate"):
        again = reopen(run, search)
        _set_threads(run)
        metrics, exported = _validated(run, again, observer), run.exported()
    missing = _missing(again, exported)
    kept = ["quality", "change", "parity"] + (["size"] if again.dense_missing is None else [])
    return new_report(run.report, run.recipe, metrics, kept, not_run=missing)


def _validated(run: FinishedRun, again: Again, observer: Observer) -> Metrics:
    exported, limits, kind = run.exported(), run.recipe.parity, again.kind
    device, models = reference_device(exported), again.models
    if again.dense_missing is not None:
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
    """Latency and memory of a run's artifacts, dense beside pruned, and of PyTorch.

    Raises:
        RecipeError: a setting is not allowed, or the run has no such target.
        DeviceError: nothing of it can run here.
        NumpruneError: something is missing or another; see `reopen`.
    """
    run = _changed(run, protocol.changes())
    exported = run.exported(protocol.targets)
    with shown(observer, "benchmark"):
        again = reopen(run, search)
        _set_threads(run)
        _require_runnable(run, again, exported)
        ideal = None if again.dense_missing is None else _known_ideal(run.report)
        found = measure(again.kind, again.models, exported, observer, ideal)
    missing = _missing(again, exported)
    for name in run.targets:
        if protocol.targets and name not in protocol.targets:
            missing[name] = "not asked for"
    samples = {name: tuple(one.wall_ms.tolist()) for name, one in found.samples.items()}
    return new_report(
        run.report,
        run.recipe,
        found.metrics,
        ["latency", "memory", "gpu"],
        warnings=found.warnings,
        not_run=missing,
        samples=samples,
    )


def _require_runnable(run: FinishedRun, again: Again, exported: Sequence[Exported]) -> None:
    if runnable(exported) or (again.dense_missing is None and run.recipe.benchmark.reference):
        return
    why = "; ".join(f"{one.target.name}: {one.target.cannot_run}" for one in exported)
    raise DeviceError(
        f"nothing of `{run.folder}` can run here: {why or 'it has no artifacts'}",
        hint="measure it on the machine that it was made for",
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
    """What the run had computed: it follows from the shapes of both models."""
    known = {}
    for name, one in report.metrics.items():
        kind, *middle, last = name.split(".")
        if kind == "latency" and last == "ideal":
            known[".".join(middle[1:])] = one.value
    return known


def _missing(again: Again, exported: Sequence[Exported]) -> dict[str, str]:
    found = {name: why for one in exported for name, why in unchecked(one).items()}
    if again.dense_missing is not None:
        found |= {DENSE: again.dense_missing, "torch": "its rows need the dense model"}
    return found
