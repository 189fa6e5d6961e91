"""State of a GPU during a measurement, and warnings about throttling and heat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numprune_export.core.metric import Metric, Metrics

HOT_C = 85
"""Near the slowdown threshold of NVIDIA's server and desktop GPUs (85 to 95 °C)."""

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
"""Harmless reasons: an idle GPU, or clocks set by a user."""


@dataclass(frozen=True)
class GpuState:
    """One reading. None: the driver or the card does not report the value."""

    name: str
    driver_version: str
    cuda_version: str | None
    """Newest CUDA version that the driver supports, for example `13.0`."""
    compute_capability: str | None
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    """Used by all processes."""
    temperature_c: float | None
    sm_clock_mhz: float | None
    memory_clock_mhz: float | None
    power_w: float | None
    reasons: tuple[str, ...]
    """Why the clocks were not higher at that moment: values of `REASONS`."""
    persistence: bool | None
    """Whether the driver stays loaded between processes; otherwise the first call is slow."""
    thermal_ns: int | None = None
    """Time that heat has held the clocks down, since the driver was loaded."""
    power_ns: int | None = None
    """Time that the power cap has held the clocks down."""

    @property
    def memory_free_bytes(self) -> int | None:
        if self.memory_total_bytes is None or self.memory_used_bytes is None:
            return None
        return self.memory_total_bytes - self.memory_used_bytes


def reasons_of(bits: int) -> tuple[str, ...]:
    """Names of the set bits.

    >>> reasons_of(0x24)
    ('power cap', 'thermal slowdown')
    """
    return tuple(name for bit, name in REASONS.items() if bits & bit)


def conditions(state: GpuState) -> dict[str, Any]:
    """Conditions of a metric measured on this GPU."""
    values = {
        "gpu": state.name,
        "driver": state.driver_version,
        "driver_cuda": state.cuda_version,
    }
    return {key: value for key, value in values.items() if value is not None}


_UNITS = {
    "temperature_c": "°C",
    "sm_clock_mhz": "MHz",
    "memory_clock_mhz": "MHz",
    "power_w": "W",
    "memory_used_bytes": "bytes",
}


def metrics(before: GpuState, after: GpuState) -> Metrics:
    """Both readings as `gpu.<before|after>.<key>`, and the throttled time in between.

    Returns:
        Temperature, clocks, power and used memory, as far as the driver reports them, and
        `gpu.throttled.thermal_ms` and `gpu.throttled.power_ms`: the time that heat and the power
        cap held the clocks down.
    """
    metrics: Metrics = {}
    for moment, state in (("before", before), ("after", after)):
        under = conditions(state) | {"reasons": ", ".join(state.reasons) or "none"}
        for key, unit in _UNITS.items():
            value = getattr(state, key)
            if value is not None:
                metrics[f"gpu.{moment}.{key}"] = Metric(value, unit, 1, conditions=under)
    for key, spent in _throttled_ms(before, after):
        name = f"gpu.throttled.{key}_ms"
        metrics[name] = Metric(spent, "ms", 1, conditions=conditions(after))
    return metrics


def warnings(before: GpuState, after: GpuState) -> tuple[str, ...]:
    """Sentences that warn about measurements taken between the two readings."""
    return tuple(_doubts(before, after))


def _doubts(before: GpuState, after: GpuState) -> Iterator[str]:
    for key, spent in _throttled_ms(before, after):
        if spent > 0:
            cause = "heat" if key == "thermal" else "its power cap"
            yield f"the GPU's clocks were held down by {cause} for {spent:.0f} ms of the benchmark"
    for moment, state in (("before", before), ("after", after)):
        trouble = [reason for reason in state.reasons if reason not in CHOSEN]
        if trouble:
            yield f"the GPU's clocks were held down {moment} the benchmark: {', '.join(trouble)}"
    if after.temperature_c is not None and after.temperature_c >= HOT_C:
        yield f"the GPU reached {after.temperature_c:.0f} °C, where GPUs begin to slow down"


def _throttled_ms(before: GpuState, after: GpuState) -> Iterator[tuple[str, float]]:
    for key in ("thermal", "power"):
        first, last = getattr(before, f"{key}_ns"), getattr(after, f"{key}_ns")
        if first is not None and last is not None:
            yield key, (last - first) / 1e6
