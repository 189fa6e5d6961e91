"""Targets of a run and their exported artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel

from numprune_export.core.stage import Stage
from numprune_export.export import targets
from numprune_export.export.artifact import Artifact
from numprune_export.export.exporter import Exporter
from numprune_export.export.runner import Device
from numprune_export.pipeline.models import Variant
from numprune_export.recipe import Recipe


@dataclass(frozen=True)
class Target:
    """A target of the recipe, with validated settings and an installed runtime."""

    exporter: Exporter
    settings: BaseModel
    cannot_run: str | None = None
    """Why artifacts can be exported but not run here; None: they can run."""

    @property
    def name(self) -> str:
        return self.exporter.name


@dataclass(frozen=True)
class Exported:
    """The exported artifacts of one target, dense and pruned."""

    target: Target
    artifacts: Mapping[Variant, Artifact]
    stages: tuple[Stage, ...]


def chosen_targets(recipe: Recipe) -> tuple[Target, ...]:
    """The targets of the recipe, checked.

    Raises:
        RecipeError: a target or setting is unknown.
        MissingExtraError: a runtime is not installed.
    """
    chosen = []
    for name, content in recipe.targets.items():
        exporter = targets.find(name)
        settings = targets.settings_for(exporter, content)
        availability = targets.require_ready(exporter)
        chosen.append(Target(exporter, settings, availability.cannot_run))
    return tuple(chosen)


def facts_of(exported: Exported) -> dict[str, Any]:
    """Facts of a target's artifacts that its metrics depend on."""
    facts: Mapping[str, Any] = exported.artifacts["pruned"].facts
    selected = {key: facts[key] for key in ("graph", "dtype", "runtime") if key in facts}
    return {"device": exported.target.exporter.device, **selected}


def runnable(exported: Sequence[Exported]) -> list[Exported]:
    return [artifacts for artifacts in exported if artifacts.target.cannot_run is None]


def reference_device(exported: Sequence[Exported]) -> Device:
    """Device of the PyTorch reference: the GPU if a runnable artifact uses it, else the CPU."""
    gpu = any(artifacts.target.exporter.device == "cuda" for artifacts in runnable(exported))
    return "cuda" if gpu and torch.cuda.is_available() else "cpu"
