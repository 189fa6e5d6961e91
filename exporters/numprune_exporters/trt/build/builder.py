"""Build an engine file from a parsed network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numprune_export.core.errors import OutputError
from numprune_exporters.trt.build import timing_cache
from numprune_exporters.trt.build.network import Parsed, Refused
from numprune_exporters.trt.messages import not_the_graph, reason
from numprune_exporters.trt.profiles import Profiles, Span, corners
from numprune_exporters.trt.settings import EngineSettings, TrtRtxSettings, TrtSettings
from numprune_exporters.trt.toolkit import Toolkit

Inputs = Mapping[str, Mapping[str, Any]]
"""The graph's inputs from its facts: name to `type` and `shape`."""


def build(
    toolkit: Toolkit,
    parsed: Parsed,
    settings: EngineSettings,
    profiles: Profiles,
    inputs: Inputs,
    engine: Path,
    cache: Path | None,
) -> None:
    """Write one engine.

    Args:
        cache: Timing cache to read and to write back, or None.

    Raises:
        Refused: the builder cannot build this graph.
        DeviceError: the GPU is missing, its driver is too old, or its memory is too small.
        RecipeError: the workspace limit is too small.
        InputError: the timing cache cannot be used.
        OutputError: the file cannot be written.
    """
    config = configuration(toolkit, parsed, settings, profiles, inputs)
    if cache is not None:
        timing_cache.attach(toolkit, config, cache)
    with toolkit.listening() as messages:
        built = _written(toolkit, parsed, config, engine)
    if not built:
        raise not_the_graph(messages, title=toolkit.title, target=toolkit.target) or Refused(
            "builder", reason(messages)
        )
    if cache is not None:
        timing_cache.save(config, cache)


def _written(toolkit: Toolkit, parsed: Parsed, config: Any, engine: Path) -> bool:
    """Build into a file; a failed build leaves no file."""
    built = False
    try:
        with engine.open("wb") as file:
            built = toolkit.serialize(parsed.builder, parsed.network, config, file)
    except OSError as error:
        raise OutputError(
            f"cannot write the engine to `{engine}`: {error.strerror or error}",
            hint="if the disk is full, free some space and run the same command again: it resumes",
        ) from None
    finally:
        if not built:
            engine.unlink(missing_ok=True)
    return built


def configuration(
    toolkit: Toolkit,
    parsed: Parsed,
    settings: EngineSettings,
    profiles: Profiles,
    inputs: Inputs,
) -> Any:
    """An IBuilderConfig of the settings, without the timing cache."""
    module, config = toolkit.module, parsed.builder.create_builder_config()
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
    flags = module.BuilderFlag
    if not settings.tf32:
        config.clear_flag(flags.TF32)
    if settings.refittable:
        config.set_flag(flags.REFIT)
    if settings.stripped:
        config.set_flag(flags.STRIP_PLAN)
    if settings.workspace_mib is not None:
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20)
    if isinstance(settings, TrtSettings):
        _tune(toolkit, config, settings)
    if isinstance(settings, TrtRtxSettings):
        _aim(toolkit, config, settings)
    for spans in profiles.dimensions:
        config.add_optimization_profile(optimization_profile(parsed.builder, spans, inputs))
    return config


def _tune(toolkit: Toolkit, config: Any, settings: TrtSettings) -> None:
    if settings.optimization_level is not None:
        config.builder_optimization_level = settings.optimization_level
    if settings.hardware_compatibility != "none":
        levels = toolkit.module.HardwareCompatibilityLevel.__members__
        config.hardware_compatibility_level = levels[settings.hardware_compatibility.upper()]
    if settings.version_compatible:
        config.set_flag(toolkit.module.BuilderFlag.VERSION_COMPATIBLE)


def _aim(toolkit: Toolkit, config: Any, settings: TrtRtxSettings) -> None:
    """Build for the named GPUs; portable if none is named."""
    known = toolkit.module.ComputeCapability.__members__
    if settings.compute_capabilities:
        config.num_compute_capabilities = len(settings.compute_capabilities)
    for index, name in enumerate(settings.compute_capabilities):
        config.set_compute_capability(known[name.upper()], index)


def optimization_profile(builder: Any, spans: Mapping[str, Span], inputs: Inputs) -> Any:
    """An IOptimizationProfile: smallest, best and largest shape of every input."""
    profile = builder.create_optimization_profile()
    for name, port in inputs.items():
        profile.set_shape(name, *corners(port["shape"], spans))
    return profile
