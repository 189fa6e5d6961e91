"""Files, keys, size and time metrics of the measuring stages."""

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
from numprune_export.core.stage import Stage
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
    """The metrics of a measuring stage."""
    return metrics_from_json(json.loads((stage.folder / METRICS).read_text()))


def read_warnings(stage: Stage) -> tuple[str, ...]:
    """Warnings of a measuring stage, as sentences."""
    return tuple(json.loads((stage.folder / WARNINGS).read_text()))


def write_samples(folder: Path, samples: Mapping[str, Samples]) -> None:
    """Write wall times in ms, by the prefix of the metrics' names."""
    content = {name: times.wall_ms.tolist() for name, times in samples.items()}
    (folder / SAMPLES).write_text(json.dumps(content) + "\n")


def read_samples(stage: Stage) -> dict[str, tuple[float, ...]]:
    """Wall times in ms by metric prefix; empty if an older version wrote the stage."""
    path = stage.folder / SAMPLES
    if not path.exists():
        return {}
    return {name: tuple(times) for name, times in json.loads(path.read_text()).items()}


def dense_keys(exported: Sequence[Exported]) -> list[Any]:
    """Dependencies of the dense artifacts' metrics."""
    return [[artifacts.stages[0].key, artifacts.target.cannot_run] for artifacts in exported]


def keys(models: Models, exported: Sequence[Exported]) -> list[Any]:
    """Dependencies of a stage's metrics: models, artifacts, and which of these can run."""
    model_keys = [models.key(variant) for variant in VARIANTS]
    artifact_keys = [stage.key for artifacts in exported for stage in artifacts.stages]
    return model_keys + artifact_keys + [artifacts.target.cannot_run for artifacts in exported]


def size_metrics(models: Models, exported: Sequence[Exported]) -> Metrics:
    """Parameters and bytes, dense and pruned; `ratio` is the fraction that stays."""
    metrics = dense_and_pruned(
        "size.parameters", "parameters", *map(parameter_count, _models(models))
    )
    plan = models.plan
    metrics |= dense_and_pruned(
        "size.prunable_parameters", "parameters", plan.prunable_parameters, plan.kept_parameters
    )
    metrics |= dense_and_pruned("size.bytes", "bytes", *map(_weight_bytes, _models(models)))
    for export in exported:
        dense, pruned = (export.artifacts[variant].size_bytes for variant in VARIANTS)
        metrics |= dense_and_pruned(f"size.{export.target.name}.bytes", "bytes", dense, pruned)
    return metrics


def time_metrics(stages: Sequence[Stage]) -> Metrics:
    """`time.<stage>_s`, the wall time of the stage when it ran, and `time.total_s`."""
    metrics = {f"time.{stage.name}_s": Metric(stage.seconds, "s", 1) for stage in stages}
    metrics["time.total_s"] = Metric(sum(stage.seconds for stage in stages), "s", len(stages))
    return metrics


def _models(models: Models) -> tuple[nn.Module, nn.Module]:
    return models.dense, models.pruned


def _weight_bytes(model: nn.Module) -> int:
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())
