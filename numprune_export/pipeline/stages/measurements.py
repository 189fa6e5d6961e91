"""What the measuring stages share: their file, and the facts that a number depends on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from numprune_export.core.metric import (
    Metric,
    Metrics,
    dense_and_pruned,
    metrics_from_json,
    metrics_to_json,
)
from numprune_export.core.run_folder import Stage
from numprune_export.measure.latency.interleave import Samples
from numprune_export.pipeline.exported import Exported
from numprune_export.pipeline.models import VARIANTS, Models
from numprune_export.pruning.rewrite import parameter_count

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


def dense_keys(exported: Sequence[Exported]) -> list[Any]:
    """What the dense artifacts' numbers depend on."""
    return [[one.stages[0].key, one.target.cannot_run] for one in exported]


def keys(models: Models, exported: Sequence[Exported]) -> list[Any]:
    """What the numbers of a stage depend on: the models, the artifacts, and which of them can run."""
    own = [models.key(variant) for variant in VARIANTS]
    made = [stage.key for one in exported for stage in one.stages]
    return own + made + [one.target.cannot_run for one in exported]


def size_metrics(models: Models, exported: Sequence[Exported]) -> Metrics:
    """Parameters and bytes, dense and pruned; `ratio` is the fraction that stays."""
    found = dense_and_pruned(
        "size.parameters", "parameters", *map(parameter_count, _models(models))
    )
    plan = models.plan
    found |= dense_and_pruned(
        "size.prunable_parameters", "parameters", plan.prunable_parameters, plan.kept_parameters
    )
    found |= dense_and_pruned("size.bytes", "bytes", *map(_weight_bytes, _models(models)))
    for one in exported:
        dense, pruned = (one.artifacts[variant].size_bytes for variant in VARIANTS)
        found |= dense_and_pruned(f"size.{one.target.name}.bytes", "bytes", dense, pruned)
    return found


def time_metrics(stages: Sequence[Stage]) -> Metrics:
    """`time.<stage>_s`, wall time when the stage was made, and `time.total_s`."""
    found = {f"time.{stage.name}_s": Metric(stage.seconds, "s", 1) for stage in stages}
    found["time.total_s"] = Metric(sum(stage.seconds for stage in stages), "s", len(stages))
    return found


def _models(models: Models) -> tuple[nn.Module, nn.Module]:
    return models.dense, models.pruned


def _weight_bytes(model: nn.Module) -> int:
    return sum(one.numel() * one.element_size() for one in model.parameters())
