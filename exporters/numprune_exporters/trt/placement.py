"""The GPUs that an engine is built for, and whether this machine's GPU is one of them."""

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
    """The GPUs that an engine runs on."""

    built_for: dict[str, Any]
    """`gpu` and `compute_capability` of the build GPU, or `compute_capabilities`: names such as
    `sm86`, or `portable`."""
    cannot_load: str | None
    """The reason why it cannot be loaded here; None: it can."""


def of(kit: Toolkit, settings: EngineSettings) -> Placement:
    """The GPUs that an engine of these settings runs on.

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
    """Why an engine for the `named` GPUs (empty: all) cannot run here; None: it can."""
    try:
        gpu = require_gpu()
    except (DeviceError, MissingExtraError) as error:
        return str(error)
    here = _name(gpu)
    if here.upper() not in kit.module.ComputeCapability.__members__:
        return f"{kit.title} has no kernels for the {gpu.name} ({here})"
    if named and here not in named:
        return f"built for {', '.join(named)}, but the {gpu.name} is {here}"
    return None


def _name(gpu: Gpu) -> str:
    return "sm" + gpu.compute_capability.replace(".", "")


def _require_gpu_for_refit(kit: Toolkit) -> None:
    try:
        require_gpu()
    except DeviceError as error:
        raise DeviceError(
            f"{kit.title} compiles refittable and stripped engines on a GPU: {error}",
            hint="omit `refittable` and `stripped`, or build on a machine with an NVIDIA GPU",
        ) from None
