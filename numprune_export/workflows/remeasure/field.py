"""The models of a comparison, and how they are timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numprune_export.export.runner import Device
from numprune_export.recipe import Benchmark
from numprune_export.workflows.remeasure.candidate import Contender


@dataclass(frozen=True)
class Field:
    """The models of a comparison, by a short key, and how they are timed."""

    models: Mapping[str, Contender]
    settings: Benchmark
    device: Device
    """Where models in PyTorch run."""

    @property
    def first(self) -> Contender:
        return next(iter(self.models.values()))

    def conditions(self) -> dict[str, dict[str, Any]]:
        threads = self.settings.threads
        return {
            key: {"threads": threads, **one.conditions(self.device)}
            for key, one in self.models.items()
        }
