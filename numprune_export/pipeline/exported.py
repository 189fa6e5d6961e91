"""Targets of a run and what was exported to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel

from numprune_export.core.run_folder import Stage
from numprune_export.export import targets
from numprune_export.export.artifact import Artifact
from numprune_export.export.exporter import Exporter
from numprune_export.export.runner import Device
from numprune_export.pipeline.models import Variant
from numprune_export.recipe import Recipe


@dataclass(frozen=True)
class Target:
    """A target that the recipe asks for, its settings checked and its runtime present."""

    exporter: Exporter
    settings: BaseModel
    cannot_run: str | None = None
    """Why its artifacts can be made here but not run; None: they can."""

    @property
    def name(self) -> str:
        return self.exporter.name


@dataclass(frozen=True)
class Exported:
    """Both variants of the model on one target."""

    target: Target
    artifacts: Mapping[Variant, Artifact]
    stages: tuple[Stage, ...]


def chosen_targets(recipe: Recipe) -> tuple[Target, ...]:
    """The recipe's targets, ready to use.

    Raises:
        RecipeError: an unknown target or setting.
        MissingExtraError: a runtime is not installed.
    """
    found = []
    for name, content in recipe.targets.items():
        exporter = targets.find(name)
        settings = targets.settings_for(exporter, content)
        here = targets.require_ready(exporter)
        found.append(Target(exporter, settings, here.cannot_run))
    return tuple(found)


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
