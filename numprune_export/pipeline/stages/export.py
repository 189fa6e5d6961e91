"""The export stages: dense and pruned model with the same exporter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import BaseModel
from transformers import PreTrainedModel

from numprune_export.core.progress import growing
from numprune_export.core.stage import Stage, key_of
from numprune_export.export.artifact import Artifact
from numprune_export.export.exporter import Exporter
from numprune_export.measure.environment import describe
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.exported import Exported, Target
from numprune_export.pipeline.models import VARIANTS, Models, Variant

Export = Callable[[Exporter, PreTrainedModel, Path, BaseModel], Artifact]
"""Writes an artifact of a model."""


def export(context: Context, target: Target, models: Models, how: Export) -> Exported:
    """Export both variants, one stage each; a model is loaded only if its artifact is missing."""
    stages = {
        variant: _export_variant(context, target, variant, models, how) for variant in VARIANTS
    }
    artifacts = {variant: Artifact.load(stage.folder) for variant, stage in stages.items()}
    return Exported(target, artifacts, tuple(stages.values()))


def _export_variant(
    context: Context,
    target: Target,
    variant: Variant,
    models: Models,
    how: Export,
) -> Stage:
    def make(folder: Path) -> None:
        model = models.get(variant)
        with growing(folder, _size(model, target.settings), context.observer):
            how(target.exporter, model, folder, target.settings)

    inputs = [models.key(variant), target.settings.model_dump()]
    return context.stage(
        f"export.{target.name}.{variant}",
        f"artifacts/{target.name}/{variant}",
        inputs,
        make,
        shared=variant == "dense",
        variant=_device(target),
    )


def _size(model: PreTrainedModel, settings: BaseModel) -> int:
    """Bytes of the weights in the dtype of the settings."""
    dtype = getattr(torch, str(getattr(settings, "dtype", None)), model.dtype)
    return int(model.num_parameters()) * int(dtype.itemsize)


def _device(target: Target) -> str:
    """Key of the GPU that an engine is built for; empty for graphs, which run on any processor."""
    if target.exporter.device == "cpu":
        return ""
    return key_of(*(gpu.model_dump() for gpu in describe().gpus))
