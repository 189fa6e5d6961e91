"""What the report says of sizes and of time spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from numprune_export.core.metric import Metric, Metrics
from numprune_export.core.run_folder import Stage
from numprune_export.pipeline.models import VARIANTS, Models
from numprune_export.pipeline.stages.export import Exported
from numprune_export.pruning.rewrite import parameter_count


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


def dense_and_pruned(
    name: str,
    unit: str,
    dense: float,
    pruned: float,
    *,
    conditions: Mapping[str, Any] | None = None,
) -> Metrics:
    """`<name>.dense`, `.pruned` and their `.ratio`, the fraction that stays."""
    under = dict(conditions or {})
    return {
        f"{name}.dense": Metric(dense, unit, 1, conditions=under),
        f"{name}.pruned": Metric(pruned, unit, 1, conditions=under),
        f"{name}.ratio": Metric(pruned / dense, "ratio", 1, conditions=under),
    }


def _weight_bytes(model: nn.Module) -> int:
    return sum(one.numel() * one.element_size() for one in model.parameters())
