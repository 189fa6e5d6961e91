"""Memory of the GPU, by CUDA's own count."""

from __future__ import annotations

from numprune_export.core.errors import DeviceError
from numprune_export.core.optional import require


def used_bytes() -> int:
    """In use on the device now, by all processes. The first call makes this process's CUDA context.

    Raises:
        DeviceError: CUDA cannot say.
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
