"""GPU state from NVML, through NVIDIA's bindings (`nvidia-ml-py`, imported as `pynvml`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numprune_export.core.errors import MissingExtraError
from numprune_export.core.optional import require
from numprune_export.measure.gpu.state import GpuState, reasons_of


def read(device: str) -> GpuState | None:
    """The current state, or None if the bindings, the driver or the device are missing.

    Args:
        device: Index in PCI order, or UUID.
    """
    try:
        nvml = require("pynvml", extra="cuda")
    except MissingExtraError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        return _state(nvml, _handle(nvml, device))
    except nvml.NVMLError:
        return None
    finally:
        nvml.nvmlShutdown()


def _handle(nvml: Any, device: str) -> Any:
    if device.isdecimal():
        return nvml.nvmlDeviceGetHandleByIndex(int(device))
    return nvml.nvmlDeviceGetHandleByUUID(device)


def _state(nvml: Any, handle: Any) -> GpuState:
    def query(function: Callable[..., Any], *arguments: Any) -> Any:
        """The value, or None if this card or driver does not report it."""
        try:
            return function(handle, *arguments)
        except nvml.NVMLError:
            return None

    cuda = int(nvml.nvmlSystemGetCudaDriverVersion_v2())
    capability = query(nvml.nvmlDeviceGetCudaComputeCapability)
    memory = query(nvml.nvmlDeviceGetMemoryInfo)
    power = query(nvml.nvmlDeviceGetPowerUsage)
    thermal = query(nvml.nvmlDeviceGetViolationStatus, nvml.NVML_PERF_POLICY_THERMAL)
    capped = query(nvml.nvmlDeviceGetViolationStatus, nvml.NVML_PERF_POLICY_POWER)
    persistence = query(nvml.nvmlDeviceGetPersistenceMode)
    return GpuState(
        name=_text(nvml.nvmlDeviceGetName(handle)),
        driver_version=_text(nvml.nvmlSystemGetDriverVersion()),
        cuda_version=f"{cuda // 1000}.{cuda % 1000 // 10}",
        compute_capability=None if capability is None else f"{capability[0]}.{capability[1]}",
        memory_total_bytes=None if memory is None else int(memory.total),
        memory_used_bytes=None if memory is None else int(memory.used),
        temperature_c=query(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
        sm_clock_mhz=query(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
        memory_clock_mhz=query(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
        power_w=None if power is None else power / 1000,
        # NVML's older name for it: old and new bindings have it.
        reasons=reasons_of(query(nvml.nvmlDeviceGetCurrentClocksThrottleReasons) or 0),
        persistence=None if persistence is None else bool(persistence),
        thermal_ns=None if thermal is None else int(thermal.violationTime),
        power_ns=None if capped is None else int(capped.violationTime),
    )


def _text(value: str | bytes) -> str:
    """Bindings before 11.515 return bytes."""
    return value.decode() if isinstance(value, bytes) else value
