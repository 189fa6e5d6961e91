"""Device memory of an engine, and execution contexts that share one workspace."""

from __future__ import annotations

from typing import Any

from numprune_export.core.errors import DeviceError
from numprune_exporters.cuda.buffer import DeviceBuffer
from numprune_exporters.cuda.stream import Stream
from numprune_exporters.trt.cache_layout import ALIGNMENT
from numprune_exporters.trt.messages import reason
from numprune_exporters.trt.run.ports import Engine
from numprune_exporters.trt.toolkit import Toolkit


def weights_bytes(toolkit: Toolkit, engine: Engine, plan_bytes: int) -> int:
    """Bytes of the engine's weights. TensorRT before 11 does not report them: the plan's size."""
    if not hasattr(engine, "get_engine_stat"):
        return plan_bytes
    return int(engine.get_engine_stat(toolkit.module.EngineStat.TOTAL_WEIGHTS_SIZE))


def workspace_bytes(engine: Engine) -> int:
    """Bytes of activations of the largest profile; at least ALIGNMENT, so there is an address."""
    profiles = range(engine.num_optimization_profiles)
    needed = [int(engine.get_device_memory_size_for_profile_v2(index)) for index in profiles]
    return max(ALIGNMENT, *needed)


def make_context(
    toolkit: Toolkit, engine: Engine, profile: int, stream: Stream, workspace: DeviceBuffer
) -> Any:
    """An execution context of one profile that computes in `workspace`.

    By default each context allocates its own workspace of the size of the largest profile. Contexts
    that never run at the same time can share one.

    Raises:
        DeviceError: TensorRT cannot create the context.
    """
    strategy = toolkit.module.ExecutionContextAllocationStrategy.USER_MANAGED
    with toolkit.listening() as messages:
        context = engine.create_execution_context(strategy)
        ready = context is not None and context.set_optimization_profile_async(
            profile, stream.handle
        )
    if not ready:
        raise DeviceError(
            f"{toolkit.title} cannot run profile `{profile}` of this engine: {reason(messages)}",
            hint="free memory on the GPU, or export the model again on it",
        )
    stream.synchronize()
    context.set_device_memory(workspace.address, workspace.size)
    return context
