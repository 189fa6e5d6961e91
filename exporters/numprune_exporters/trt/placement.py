"""Which GPUs an engine is built for, and whether the one here is among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numprune_export.core.errors import DeviceError, MissingExtraError
from numprune_exporters.cuda.device import Gpu, require_gpu
from numprune_exporters.trt.settings import EngineSettings, TrtRtxSettings
from numprune_exporters.trt.toolkit import Toolkit


@dataclass(frozen=True)
class Placement:
    """Where an engine runs."""

    built_for: dict[str, Any]
    """`gpu` and `compute_capability` of the GPU it was built on, or `compute_capabilities`: `sm86`
    and the like, or `portable`."""
    cannot_load: str | None
    """Why it cannot be loaded here; None: it can."""


def of(kit: Toolkit, settings: EngineSettings) -> Placement:
    """Where an engine of these settings runs.

    Raises:
        DeviceError: the build needs a GPU and there is none.
        MissingExtraError: the build needs the CUDA bindings and they are not installed.
    """
    if not isinstance(settings, TrtRtxSettings):
        gpu = require_gpu()
        return Placement({"gpu": gpu.name, "compute_capability": gpu.compute_capability}, None)
    if settings.refittable or settings.stripped:
        _require_gpu_for_refit(kit)
    named = list(settings.compute_capabilities)
    return Placement({"compute_capabilities": named or ["portable"]}, why_not_here(kit, named))


def why_not_here(kit: Toolkit, named: Sequence[str] = ()) -> str | None:
    """Why engines built ahead of time, for these GPUs or for all, cannot run here; None: they can."""
    try:
        gpu = require_gpu()
    except (DeviceError, MissingExtraError) as error:
        return str(error)
    here = _name(gpu)
    if here.upper() not in kit.module.ComputeCapability.__members__:
        return f"{kit.title} has no kernels for the {gpu.name} ({here})"
    if named and here not in named:
        return f"built for {', '.join(named)}, and the {gpu.name} is {here}"
    return None


def _name(gpu: Gpu) -> str:
    return "sm" + gpu.compute_capability.replace(".", "")


def _require_gpu_for_refit(kit: Toolkit) -> None:
    try:
        require_gpu()
    except DeviceError as error:
        raise DeviceError(
            f"{kit.title} compiles refittable and stripped engines on a GPU: {error}",
            hint="leave out `refittable` and `stripped`, or build on a machine with an NVIDIA GPU",
        ) from None
