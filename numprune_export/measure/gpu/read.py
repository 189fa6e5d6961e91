"""Current state of the GPU that this process computes on, as the driver reports it."""

from __future__ import annotations

import os

from numprune_export.measure.gpu import nvml as gpu_nvml
from numprune_export.measure.gpu import smi as gpu_smi
from numprune_export.measure.gpu.state import GpuState


def read() -> GpuState | None:
    """The state from NVML, or from nvidia-smi if the bindings are not installed; None: no GPU.

    Changes nothing on the device and does not initialise CUDA in this process.
    """
    device = visible()
    if device is None:
        return None
    return gpu_nvml.read(device) or gpu_smi.read(device)


def visible() -> str | None:
    """The first device that CUDA may use here, as an index or UUID; None: CUDA may use none.

    CUDA numbers the fastest device first, the driver numbers in PCI order. On a host with different
    cards an index can therefore mean two devices; `CUDA_DEVICE_ORDER=PCI_BUS_ID` prevents that.
    """
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return "0"
    first = allowed.split(",")[0].strip()
    # As in CUDA: an empty value or an invalid index hides all devices.
    return first if first.isdecimal() or first.startswith(("GPU-", "MIG-")) else None
