"""The GPU that this process computes on, as its driver sees it: now."""

from __future__ import annotations

import os

from numprune_export.measure.gpu import nvml as gpu_nvml
from numprune_export.measure.gpu import smi as gpu_smi
from numprune_export.measure.gpu.state import GpuState


def read() -> GpuState | None:
    """By NVML, or by nvidia-smi where its bindings are not installed; None: there is no GPU.

    Changes nothing on the device and needs no CUDA in this process.
    """
    device = visible()
    if device is None:
        return None
    return gpu_nvml.read(device) or gpu_smi.read(device)


def visible() -> str | None:
    """The first device that CUDA may use here, as an index or UUID; None: CUDA may use none.

    CUDA counts the fastest first and the driver in PCI order, so an index can mean another card
    where the cards of a host differ; `CUDA_DEVICE_ORDER=PCI_BUS_ID` makes the two agree.
    """
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return "0"
    first = allowed.split(",")[0].strip()
    # As CUDA reads it: empty, or an index that cannot be, hides all devices.
    return first if first.isdecimal() or first.startswith(("GPU-", "MIG-")) else None
