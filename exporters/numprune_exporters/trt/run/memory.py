"""What an engine holds on the device, and execution contexts that share one workspace."""

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
    """Bytes of the engine's weights; before TensorRT 11, which can say, the plan's own size."""
    if not hasattr(engine, "get_engine_stat"):
        return plan_bytes
    return int(engine.get_engine_stat(toolkit.module.EngineStat.TOTAL_WEIGHTS_SIZE))


def workspace_bytes(engine: Engine) -> int:
    """Bytes of activations that the hungriest profile needs; never 0, which has no address."""
    profiles = range(engine.num_optimization_profiles)
    needed = [int(engine.get_device_memory_size_for_profile_v2(one)) for one in profiles]
    return max(ALIGNMENT, *needed)


def make_context(
    toolkit: Toolkit, engine: Engine, profile: int, stream: Stream, workspace: DeviceBuffer
) -> Any:
    """An execution context of one profile that computes in `workspace`.

    Left to itself each context holds a workspace of its own, as large as the hungriest profile
    needs. Contexts that never run at once need one between them.

    Raises:
        DeviceError: TensorRT cannot make it.
    """
    strategy = toolkit.module.ExecutionContextAllocationStrategy.USER_MANAGED
    with toolkit.listening() as heard:
        context = engine.create_execution_context(strategy)
        ready = context is not None and context.set_optimization_profile_async(
            profile, stream.handle
        )
    if not ready:
        raise DeviceError(
            f"{toolkit.title} cannot run profile `{profile}` of this engine: {reason(heard)}",
            hint="free memory on the GPU, or export the model again on it",
        )
    stream.synchronize()
    context.set_device_memory(workspace.address, workspace.size)
    return context
