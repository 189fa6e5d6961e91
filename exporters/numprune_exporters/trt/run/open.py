"""Open an engine on the GPU. Needs numpy, TensorRT and cuda-bindings; no torch, no onnx."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

from numprune_export.core.errors import DeviceError, InputError, NumpruneError
from numprune_export.export.artifact import Artifact
from numprune_exporters.cuda.device import Gpu, require_gpu
from numprune_exporters.onnx.session import verify
from numprune_exporters.runners.decoder import require_capacity
from numprune_exporters.trt import profiles as engine_profiles
from numprune_exporters.trt import toolkit as toolkits
from numprune_exporters.trt.cache_layout import slots_for
from numprune_exporters.trt.messages import Message, reason
from numprune_exporters.trt.run.device import EngineDevice
from numprune_exporters.trt.run.gpu_match import check_gpu
from numprune_exporters.trt.run.memory import weights_bytes
from numprune_exporters.trt.run.open_graph import GRAPH
from numprune_exporters.trt.run.plan_header import read_header
from numprune_exporters.trt.run.ports import Engine, engine_tensors, read_ports
from numprune_exporters.trt.run.refit import put_weights
from numprune_exporters.trt.run.runner import EngineRunner
from numprune_exporters.trt.toolkit import Toolkit

_OTHER_GPU = ("incompatible device", "compute capability")


def open_engine(
    artifact: Artifact, *, threads: int, capacity: int | None = None, record: bool = True
) -> EngineRunner:
    """See Exporter.open. `threads` has no effect.

    Args:
        record: True: launch decode steps as a CUDA graph; False: kernel by kernel.

    Raises:
        InputError: a file is missing or altered, the engine is of another TensorRT version or has
            no weights, or the capacity is missing or outside the decode profile.
        DeviceError: no GPU, another GPU than the engine's, or out of memory.
        MissingExtraError: TensorRT or cuda-bindings is not installed.
    """
    longest = require_capacity(artifact, capacity)
    verify(artifact)
    plan = artifact.folder / artifact.entry
    toolkit = toolkits.load(artifact.target)
    _check_plan(artifact, plan, toolkit)
    profiles = engine_profiles.from_facts(artifact.facts)
    profiles.require_capacity(longest)
    gpu = require_gpu()
    check_gpu(artifact.facts, gpu)
    engine = deserialize(artifact, plan, toolkit, gpu)
    if artifact.facts.get("stripped"):
        put_weights(toolkit, engine, artifact.folder / GRAPH)
    ports = read_ports(engine_tensors(engine))
    slots = slots_for(longest, ports.token_bytes, profiles.capacity)
    device = EngineDevice(toolkit, engine, ports, slots=slots, record=record)
    return EngineRunner(
        device,
        profiles,
        vocabulary=ports.vocabulary,
        capacity=longest,
        weights_bytes=weights_bytes(toolkit, engine, plan.stat().st_size),
    )


def _check_plan(artifact: Artifact, plan: Path, toolkit: Toolkit) -> None:
    """Checks of the plan that need no GPU."""
    if artifact.facts.get("stripped") and GRAPH not in artifact.files:
        raise InputError(
            f"`{plan}` has no weights, and the graph that holds them was not kept",
            hint="export with `stripped: false`, or with `keep_graph: true`",
        )
    header = read_header(plan)
    installed = tuple(int(part) for part in toolkit.version.split(".")[:3])
    if header.module != toolkit.module.__name__ or (
        header.version[:3] != installed and not artifact.facts.get("version_compatible")
    ):
        raise InputError(
            f"`{plan}` was built by `{header.module}` {header.text}, "
            f"`{toolkit.module.__name__}` {toolkit.version} is installed",
            hint=f"export the model again, or: pip install '{header.module}=={header.text}'",
        )


def deserialize(artifact: Artifact, plan: Path, toolkit: Toolkit, gpu: Gpu) -> Engine:
    """The engine of a plan; its hash and version must have been checked.

    Raises:
        DeviceError: the engine is for another GPU, or there is too little memory.
        InputError: TensorRT cannot read the plan.
    """
    runtime = toolkit.module.Runtime(toolkit.logger)
    # A version-compatible plan contains its own runtime: host code. Its hash was checked.
    runtime.engine_host_code_allowed = bool(artifact.facts.get("version_compatible"))
    # Mapped, not read: a plan is as large as the weights, and the device gets a copy.
    with (
        toolkit.listening() as messages,
        plan.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise _refusal(plan, toolkit, gpu, messages)
    return engine


def _refusal(plan: Path, toolkit: Toolkit, gpu: Gpu, messages: Sequence[Message]) -> NumpruneError:
    """The error for a plan of the right hash and version that TensorRT refuses."""
    text = " ".join(message.text for message in messages)
    if any(pattern in text for pattern in _OTHER_GPU):
        return DeviceError(
            f"`{plan}` was not built for `{gpu.name}` (compute capability "
            f"{gpu.compute_capability}): {reason(messages)}",
            hint="export the model again on this GPU",
        )
    if "out of memory" in text.lower() or "OutOfMemory" in text:
        return DeviceError(
            f"`{gpu.name}` has too little free memory for `{plan}`: {reason(messages)}",
            hint="free GPU memory of other processes, or keep less of the model",
        )
    return InputError(
        f"{toolkit.title} cannot read `{plan}`: {reason(messages)}",
        hint="export the model again with the versions installed here",
    )
