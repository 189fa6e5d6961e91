"""Opening an engine on the GPU: needs numpy, TensorRT and cuda-bindings, and neither torch nor onnx."""

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
    """See Exporter.open. The host's `threads` do nothing here.

    Args:
        record: launch decode steps as a CUDA graph; False: one kernel after the other.

    Raises:
        InputError: a file is missing or altered, the engine is another TensorRT's or has no
            weights, or no capacity is given within its decode profile.
        DeviceError: no GPU, another one than the engine was built for, or out of memory.
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
    """What can be seen without a GPU."""
    if artifact.facts.get("stripped") and GRAPH not in artifact.files:
        raise InputError(
            f"`{plan}` was stripped of its weights, and the graph that holds them was not kept",
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
    """The engine in a plan whose hash and version are right.

    Raises:
        DeviceError: it does not fit this GPU.
        InputError: TensorRT cannot read it.
    """
    runtime = toolkit.module.Runtime(toolkit.logger)
    # Such a plan brings a runtime of its own, which is host code. Its hash has been checked.
    runtime.engine_host_code_allowed = bool(artifact.facts.get("version_compatible"))
    # Mapped, not read: a plan is as large as the weights, and the device gets a copy of its own.
    with (
        toolkit.listening() as heard,
        plan.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise _refusal(plan, toolkit, gpu, heard)
    return engine


def _refusal(plan: Path, toolkit: Toolkit, gpu: Gpu, heard: Sequence[Message]) -> NumpruneError:
    """Why TensorRT does not take a plan whose hash and version are right."""
    said = " ".join(one.text for one in heard)
    if any(one in said for one in _OTHER_GPU):
        return DeviceError(
            f"`{plan}` was not built for `{gpu.name}` (compute capability "
            f"{gpu.compute_capability}): {reason(heard)}",
            hint="export the model again on this GPU",
        )
    if "out of memory" in said.lower() or "OutOfMemory" in said:
        return DeviceError(
            f"`{gpu.name}` has not enough free memory for `{plan}`: {reason(heard)}",
            hint="free memory that others hold on this GPU, or keep less of the model",
        )
    return InputError(
        f"{toolkit.title} cannot read `{plan}`: {reason(heard)}",
        hint="export the model again with the versions installed here",
    )
