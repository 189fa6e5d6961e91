"""What a GPU was doing when something was measured on it, and whether that can be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numprune_export.core.metric import Metric, Metrics

HOT_C = 85
"""Close to where NVIDIA's server and desktop chips begin to slow down (they say so at 85 to 95 °C)."""

REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
    0x100: "display clocks",
}
"""Bits of NVML's clocks event reasons (`nvmlClocksEventReason*` in nvml.h)."""

CHOSEN = frozenset({"idle", "application clocks", "sync boost", "display clocks"})
"""The reasons that are no trouble: nothing to do, or a clock that somebody set."""


@dataclass(frozen=True)
class GpuState:
    """One reading. None: this driver or this card does not tell."""

    name: str
    driver_version: str
    cuda_version: str | None
    """The newest CUDA that the driver can run, for example `13.0`."""
    compute_capability: str | None
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    """By all processes."""
    temperature_c: float | None
    sm_clock_mhz: float | None
    memory_clock_mhz: float | None
    power_w: float | None
    reasons: tuple[str, ...]
    """Why the clocks were not higher at that moment, in the words of `REASONS`."""
    persistence: bool | None
    """Whether the driver stays loaded between processes; without it the first call is slow."""
    thermal_ns: int | None = None
    """How long the clocks have been held down by heat, since the driver was loaded."""
    power_ns: int | None = None
    """How long by the power cap."""

    @property
    def memory_free_bytes(self) -> int | None:
        if self.memory_total_bytes is None or self.memory_used_bytes is None:
            return None
        return self.memory_total_bytes - self.memory_used_bytes


def reasons_of(bits: int) -> tuple[str, ...]:
    """The names of the bits that are set.

    >>> reasons_of(0x24)
    ('power cap', 'thermal slowdown')
    """
    return tuple(name for bit, name in REASONS.items() if bits & bit)


def conditions(state: GpuState) -> dict[str, Any]:
    """What a number measured on this GPU holds under."""
    found = {
        "gpu": state.name,
        "driver": state.driver_version,
        "driver_cuda": state.cuda_version,
    }
    return {key: one for key, one in found.items() if one is not None}


_UNITS = {
    "temperature_c": "°C",
    "sm_clock_mhz": "MHz",
    "memory_clock_mhz": "MHz",
    "power_w": "W",
    "memory_used_bytes": "bytes",
}


def metrics(before: GpuState, after: GpuState) -> Metrics:
    """Both readings as `gpu.<before|after>.<what>`, and what the clocks lost in between.

    Returns:
        What the driver told: temperature, clocks, power and used memory; `gpu.throttled.thermal_ms`
        and `gpu.throttled.power_ms`, how long heat and the power cap held the clocks down.
    """
    found: Metrics = {}
    for moment, state in (("before", before), ("after", after)):
        under = conditions(state) | {"reasons": ", ".join(state.reasons) or "none"}
        for key, unit in _UNITS.items():
            value = getattr(state, key)
            if value is not None:
                found[f"gpu.{moment}.{key}"] = Metric(value, unit, 1, conditions=under)
    for key, spent in _throttled_ms(before, after):
        name = f"gpu.throttled.{key}_ms"
        found[name] = Metric(spent, "ms", 1, conditions=conditions(after))
    return found


def warnings(before: GpuState, after: GpuState) -> tuple[str, ...]:
    """Whole sentences for a reader of the numbers measured between the two readings."""
    return tuple(_doubts(before, after))


def _doubts(before: GpuState, after: GpuState) -> Iterator[str]:
    for key, spent in _throttled_ms(before, after):
        if spent > 0:
            cause = "heat" if key == "thermal" else "its power cap"
            yield f"the GPU's clocks were held down by {cause} for {spent:.0f} ms of the benchmark"
    for moment, state in (("before", before), ("after", after)):
        trouble = [one for one in state.reasons if one not in CHOSEN]
        if trouble:
            yield f"the GPU's clocks were held down {moment} the benchmark: {', '.join(trouble)}"
    if after.temperature_c is not None and after.temperature_c >= HOT_C:
        yield f"the GPU reached {after.temperature_c:.0f} °C, where chips begin to slow down"


def _throttled_ms(before: GpuState, after: GpuState) -> Iterator[tuple[str, float]]:
    for key in ("thermal", "power"):
        first, last = getattr(before, f"{key}_ns"), getattr(after, f"{key}_ns")
        if first is not None and last is not None:
            yield key, (last - first) / 1e6
