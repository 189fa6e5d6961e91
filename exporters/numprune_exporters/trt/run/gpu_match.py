"""Check that an engine was built for this machine's GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numprune_export.core.errors import DeviceError
from numprune_exporters.cuda.device import Gpu

_AMPERE = (8, 0)


def check_gpu(facts: Mapping[str, Any], gpu: Gpu) -> None:
    """Compare `built_for` of an artifact's facts with the GPU.

    Raises:
        DeviceError: the engine was built for another compute capability.
    """
    built_for: Mapping[str, Any] = facts["built_for"]
    if "compute_capability" in built_for:
        wide = facts.get("hardware_compatibility") == "ampere_plus"
        fits = gpu.compute_capability == built_for["compute_capability"] or (
            wide and _numbers(gpu) >= _AMPERE
        )
        wanted = f"{built_for['gpu']} ({built_for['compute_capability']})"
    else:
        named = built_for["compute_capabilities"]
        fits = "sm" + gpu.compute_capability.replace(".", "") in named or "portable" in named
        wanted = ", ".join(named)
    if not fits:
        raise DeviceError(
            f"this engine was built for `{wanted}`, "
            f"the GPU here is `{gpu.name} ({gpu.compute_capability})`",
            hint="export the model again on this GPU, or for it",
        )


def _numbers(gpu: Gpu) -> tuple[int, ...]:
    return tuple(int(part) for part in gpu.compute_capability.split("."))
