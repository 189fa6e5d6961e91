"""Estimate of a recipe as a table or JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from numprune_export.workflows.estimate.machine import Machine

KEYS = {
    "write": ("`generated_text: 0`", "`generated_text.texts`"),
    "calibrate": ("a lower `calibration.batch`", "fewer `calibration.sequences`"),
    "gradients": ("a lower `calibration.batch`", "fewer `score.sequences`"),
    "score": ("`method: fast`, whose score solves nothing",),
    "allocate": ("one candidate of `allocate.attention`",),
    "prune": (
        "fewer `calibration.sequences`",
        "`compensate: {method: closed_form, order: one_shot}`",
    ),
}
"""Keys of a recipe that lower the memory of a stage."""


@dataclass(frozen=True)
class StageEstimate:
    """Estimate of one stage."""

    name: str
    seconds: float
    memory_bytes: float
    """Peak resident bytes of the host, including runtime and model."""
    device_bytes: float | None
    """Peak of live bytes on the GPU; None: there is none."""


@dataclass(frozen=True)
class Estimate:
    """Estimate of pruning; stages from export on are not included."""

    model: str
    machine: Machine
    streamed: bool
    """Whether blocks are read while they are in use."""
    stages: tuple[StageEstimate, ...]
    disk_bytes: dict[str, float]
    """Bytes by part of the run folder."""
    assumptions: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @property
    def memory_bytes(self) -> float:
        """Host peak of the stage that needs most."""
        return max(stage.memory_bytes for stage in self.stages)

    @property
    def device_bytes(self) -> float | None:
        """Device peak of the stage that needs most; None: there is no device."""
        needs = [stage.device_bytes for stage in self.stages if stage.device_bytes is not None]
        return max(needs) if needs else None

    @property
    def limited(self) -> bool:
        """Whether the memory that the model is in is known."""
        return self.machine.free < float("inf")

    @property
    def too_large(self) -> tuple[str, ...]:
        """Stages that need more than the memory of the machine, as far as it is known."""
        return tuple(stage.name for stage in self.stages if self._lacks(stage))

    def _lacks(self, stage: StageEstimate) -> bool:
        host, device = self.machine.host_bytes, self.machine.device_bytes
        on_device = device is not None and (stage.device_bytes or 0.0) > device
        return on_device or (host is not None and stage.memory_bytes > host)

    def to_json(self) -> dict[str, Any]:
        where = self.machine
        return {
            "model": self.model,
            "machine": {
                "name": where.name,
                "measured": where.measured,
                "host_bytes": where.host_bytes,
                "device_bytes": where.device_bytes,
            },
            "streamed": self.streamed,
            "stages": [asdict(stage) for stage in self.stages],
            "disk_bytes": self.disk_bytes,
            "assumptions": self.assumptions,
            "seconds": self.seconds,
            "memory_bytes": self.memory_bytes,
            "device_bytes": self.device_bytes,
            "fits": not self.too_large,
        }


ROW = "{:16} {:>12} {:>14} {:>14}"


def render(forecast: Estimate) -> str:
    """Text table of stages and totals, then disk, assumptions, and whether it fits."""
    how = ", blocks read while they are in use" if forecast.streamed else ""
    lines = [
        f"pruning {forecast.model}, before export, validation and benchmark{how}",
        f"on {forecast.machine.says}:",
        "",
        ROW.format("stage", "time", "host memory", "device memory"),
    ]
    lines += [
        _row(stage.name, stage.seconds, stage.memory_bytes, stage.device_bytes)
        for stage in forecast.stages
    ]
    total = _row("total", forecast.seconds, forecast.memory_bytes, forecast.device_bytes)
    kinds = ", ".join(f"{name} {size_of(size)}" for name, size in forecast.disk_bytes.items())
    disk = f"disk: {size_of(sum(forecast.disk_bytes.values()))} ({kinds})"
    lines += [total, "", disk, "", "assumed:"]
    lines += [f"- {assumption}" for assumption in forecast.assumptions]
    return "\n".join([*lines, "", verdict(forecast)])


def _row(name: str, seconds: float, host: float, device: float | None) -> str:
    on_device = "-" if device is None else size_of(device)
    return ROW.format(name, time_of(seconds), size_of(host), on_device)


def verdict(forecast: Estimate) -> str:
    """One line: whether it fits; where it does not, the keys that help."""
    where = "; ".join(_shares(forecast))
    stages = forecast.too_large
    if not stages:
        return f"fits: {where}" if forecast.limited else f"takes {where}"
    help_ = [] if forecast.streamed else ["`stream_weights: true`"]
    kinds = [name.partition("-")[0] for name in stages]
    if "score" in kinds and all(stage.name != "calibrate" for stage in forecast.stages):
        kinds.insert(0, "calibrate")  # the score takes the statistics as they are collected
    help_ += [key for kind in kinds for key in KEYS.get(kind, ())]
    named = ", ".join(f"`{name}`" for name in stages)
    return f"does not fit in {named}: {where}; what helps: {', '.join(dict.fromkeys(help_))}"


def _shares(forecast: Estimate) -> Iterator[str]:
    where = forecast.machine
    if where.device_bytes is not None and forecast.device_bytes is not None:
        yield f"{size_of(forecast.device_bytes)} of {size_of(where.device_bytes)} on the device"
    host = size_of(forecast.memory_bytes)
    known = where.host_bytes
    yield f"{host} on the host" if known is None else f"{host} of {size_of(known)} on the host"


def time_of(seconds: float) -> str:
    """For people: seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def size_of(size: float) -> str:
    """For people: MB or GB."""
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"
