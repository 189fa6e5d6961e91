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


ROW = "{:16} {:>12} {:>14}"


def render(found: Estimate) -> str:
    """Stages, totals, disk, and what was assumed."""
    lines = [
        f"pruning {found.model}, before export, validation and benchmark:",
        "",
        ROW.format("stage", "time", "peak memory"),
    ]
    lines += [
        ROW.format(one.name, _time(one.seconds), _size(one.memory_bytes)) for one in found.stages
    ]
    lines += [ROW.format("total", _time(found.seconds), _size(found.memory_bytes)), ""]
    kinds = ", ".join(f"{name} {_size(size)}" for name, size in found.disk_bytes.items())
    lines += [f"disk: {_size(sum(found.disk_bytes.values()))} ({kinds})", "", "assumed:"]
    return "\n".join([*lines, *(f"- {one}" for one in found.assumptions)])


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(size: float) -> str:
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"
