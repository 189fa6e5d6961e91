"""What the measuring stages share: their file, and the facts that a number depends on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from numprune_export.core.metric import Metrics, metrics_from_json, metrics_to_json
from numprune_export.core.run_folder import Stage
from numprune_export.export.runner import DecoderRunner, Device
from numprune_export.measure.latency.interleave import Samples
from numprune_export.pipeline.models import VARIANTS, Models, Variant
from numprune_export.pipeline.stages.export import Exported

METRICS = "metrics.json"
WARNINGS = "warnings.json"
SAMPLES = "samples.json"


def write_metrics(folder: Path, metrics: Metrics, warnings: Sequence[str] = ()) -> None:
    (folder / METRICS).write_text(json.dumps(metrics_to_json(metrics), indent=1) + "\n")
    (folder / WARNINGS).write_text(json.dumps(list(warnings), ensure_ascii=False) + "\n")


def read_metrics(stage: Stage) -> Metrics:
    """What a measuring stage found."""
    return metrics_from_json(json.loads((stage.folder / METRICS).read_text()))


def read_warnings(stage: Stage) -> tuple[str, ...]:
    """What a reader of a stage's numbers should know, in whole sentences."""
    return tuple(json.loads((stage.folder / WARNINGS).read_text()))


def write_samples(folder: Path, samples: Mapping[str, Samples]) -> None:
    """Wall times in ms, by what the names of the metrics begin with."""
    content = {name: one.wall_ms.tolist() for name, one in samples.items()}
    (folder / SAMPLES).write_text(json.dumps(content) + "\n")


def read_samples(stage: Stage) -> dict[str, tuple[float, ...]]:
    """Empty where an earlier version measured: the stage is whole without them."""
    path = stage.folder / SAMPLES
    if not path.exists():
        return {}
    return {name: tuple(times) for name, times in json.loads(path.read_text()).items()}


def open_artifact(
    exported: Exported, variant: Variant, capacity: int, threads: int | None = None
) -> DecoderRunner:
    return exported.target.exporter.open(
        exported.artifacts[variant], threads=threads or torch.get_num_threads(), capacity=capacity
    )


def facts_of(exported: Exported) -> dict[str, Any]:
    """The facts of a target's artifacts that a number depends on."""
    facts: Mapping[str, Any] = exported.artifacts["pruned"].facts
    found = {key: facts[key] for key in ("graph", "dtype", "runtime") if key in facts}
    return {"device": exported.target.exporter.device, **found}


def runnable(exported: Sequence[Exported]) -> list[Exported]:
    return [one for one in exported if one.target.cannot_run is None]


def reference_device(exported: Sequence[Exported]) -> Device:
    """Where PyTorch computes what artifacts are compared with: on the GPU if one of them runs there."""
    gpu = any(one.target.exporter.device == "cuda" for one in runnable(exported))
    return "cuda" if gpu and torch.cuda.is_available() else "cpu"


def dense_keys(exported: Sequence[Exported]) -> list[Any]:
    """What the dense artifacts' numbers depend on."""
    return [[one.stages[0].key, one.target.cannot_run] for one in exported]


def keys(models: Models, exported: Sequence[Exported]) -> list[Any]:
    """What the numbers of a stage depend on: the models, the artifacts, and which of them can run."""
    own = [models.key(variant) for variant in VARIANTS]
    made = [stage.key for one in exported for stage in one.stages]
    return own + made + [one.target.cannot_run for one in exported]
