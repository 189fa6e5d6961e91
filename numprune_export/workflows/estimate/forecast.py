"""Estimate of a recipe as a table or JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class StageEstimate:
    """Estimate of one stage."""

    name: str
    seconds: float
    memory_bytes: float
    """Peak resident bytes, including runtime and model."""


@dataclass(frozen=True)
class Estimate:
    """Estimate of pruning; stages from export on are not included."""

    model: str
    stages: tuple[StageEstimate, ...]
    disk_bytes: dict[str, float]
    """Bytes by part of the run folder."""
    assumptions: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @property
    def memory_bytes(self) -> float:
        """Peak of the stage that needs most."""
        return max(stage.memory_bytes for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "seconds": self.seconds,
            "memory_bytes": self.memory_bytes,
        }


ROW = "{:16} {:>12} {:>14}"


def render(forecast: Estimate) -> str:
    """Text table of stages and totals, then disk and assumptions."""
    lines = [
        f"pruning {forecast.model}, before export, validation and benchmark:",
        "",
        ROW.format("stage", "time", "peak memory"),
    ]
    lines += [
        ROW.format(stage.name, _time(stage.seconds), _size(stage.memory_bytes))
        for stage in forecast.stages
    ]
    lines += [ROW.format("total", _time(forecast.seconds), _size(forecast.memory_bytes)), ""]
    kinds = ", ".join(f"{name} {_size(size)}" for name, size in forecast.disk_bytes.items())
    lines += [f"disk: {_size(sum(forecast.disk_bytes.values()))} ({kinds})", "", "assumed:"]
    return "\n".join([*lines, *(f"- {assumption}" for assumption in forecast.assumptions)])


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(size: float) -> str:
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"
