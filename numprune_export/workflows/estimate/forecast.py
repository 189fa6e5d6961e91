"""The estimate of a recipe: stages, seconds, bytes; as a table or JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class StageEstimate:
    """One stage."""

    name: str
    seconds: float
    memory_bytes: float
    """Resident at its peak, runtime and model included."""


@dataclass(frozen=True)
class Estimate:
    """What pruning will take, the stages from export on left out."""

    model: str
    stages: tuple[StageEstimate, ...]
    disk_bytes: dict[str, float]
    """By what lies in the run folder."""
    assumptions: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return sum(one.seconds for one in self.stages)

    @property
    def memory_bytes(self) -> float:
        """At the peak of the stage that needs most."""
        return max(one.memory_bytes for one in self.stages)

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "seconds": self.seconds,
            "memory_bytes": self.memory_bytes,
        }
