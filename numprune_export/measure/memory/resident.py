"""Memory of this process and of its GPU, as the operating system and CUDA report it."""

import sys
from pathlib import Path

import psutil

from numprune_export.core.errors import DeviceError
from numprune_export.core.optional import require

_STATUS = Path("/proc/self/status")


def current_bytes() -> int:
    """Current resident memory."""
    return int(psutil.Process().memory_info().rss)


def peak_bytes() -> int:
    """Peak resident memory since this process started its program.

    On Linux VmHWM, which is reset at exec; ru_maxrss there would include the parent's peak.
    """
    if _STATUS.exists():
        return _status_bytes("VmHWM")
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _status_bytes(key: str) -> int:
    for line in _STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    raise AssertionError(f"{key} is not in {_STATUS}")


def used_bytes() -> int:
    """Device memory in use by all processes. The first call creates this process's CUDA context.

    Raises:
        DeviceError: CUDA cannot read it.
        MissingExtraError: cuda-bindings is not installed.
    """
    runtime = require("cuda.bindings.runtime", extra="cuda")
    error, free, total = runtime.cudaMemGetInfo()
    if int(error):
        raise DeviceError(
            f"the GPU's memory cannot be read: {error.name}",
            hint="run on a machine with an NVIDIA GPU and a current driver (`nvidia-smi`)",
        )
    return int(total) - int(free)
