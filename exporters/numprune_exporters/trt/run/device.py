"""A SlotDevice that runs an engine on the GPU, with all KV caches in one device array."""

from __future__ import annotations

from contextlib import ExitStack

from numprune_export.core.errors import DeviceError
from numprune_export.export.runner import Logits
from numprune_exporters.cuda.buffer import DeviceBuffer
from numprune_exporters.cuda.stream import Recording, Stream
from numprune_exporters.runners.slot_steps import SlotCall
from numprune_exporters.trt.cache_layout import SlotLayout
from numprune_exporters.trt.profiles import DECODE, PREFILL
from numprune_exporters.trt.run.memory import make_context, workspace_bytes
from numprune_exporters.trt.run.phase import EnginePhase
from numprune_exporters.trt.run.ports import Engine, EnginePorts
from numprune_exporters.trt.toolkit import Toolkit

_NOT_YET = "enqueue, no step recorded yet"
_NOT_ASKED = "enqueue, as requested"


class EngineDevice:
    """Owns all buffers, allocated once per batch size; both phases share one workspace.

    Shapes and addresses of a decode step depend on the batch size only. The first step of a batch
    is not recorded, because TensorRT completes its setup there. The second is recorded as a CUDA
    graph, which later steps launch. The copy into the cache is not recorded: its target changes.
    """

    def __init__(
        self,
        toolkit: Toolkit,
        engine: Engine,
        ports: EnginePorts,
        *,
        slots: int,
        record: bool,
    ) -> None:
        """Create the contexts; `allocate` creates the cache.

        Args:
            slots: Slots of the cache; every layer must begin at an aligned address.
            record: True: launch decode steps as a CUDA graph; False: kernel by kernel.

        Raises:
            DeviceError: out of memory, or TensorRT cannot create a context.
        """
        self._ports, self.slots = ports, slots
        self._layout = self._layout_of(0)
        self._record = record
        self._recording: Recording | None = None
        self._decoded = 0
        self.decode_path = _NOT_YET if record else _NOT_ASKED
        """How decode steps run: `cuda graph`, or `enqueue` and the reason."""
        self._memory = ExitStack()  # frees in reverse order
        with ExitStack() as opening:
            opening.callback(self.close)
            self._stream = Stream()
            self._memory.callback(self._stream.close)
            self._cache, self._empty, self._workspace = (self._buffer() for _ in range(3))
            self._workspace.reserve(workspace_bytes(engine))
            self._prefill, self._decode = (
                self._phase(toolkit, engine, profile) for profile in (PREFILL, DECODE)
            )
            self._memory.callback(self._stream.synchronize)
            self._memory.callback(self._forget_recording)
            opening.pop_all()

    def allocate(self, batch: int) -> None:
        """See SlotDevice.allocate.

        Raises:
            DeviceError: out of memory.
        """
        if batch == self._layout.batch:
            return
        self._forget_recording()
        self._layout, layout = self._layout_of(0), self._layout_of(batch)
        cache = self._cleared(self._cache, layout.size)
        # The one empty slot of prefill: all layers read it, none writes it.
        self._cleared(self._empty, max(self._ports.heads) * batch * self._ports.token_bytes)
        self._decode.bind(
            batch=batch,
            sequence=1,
            asked=1,
            slots=self.slots,
            caches=[cache + offset for offset in layout.offsets],
        )
        self._layout = layout

    def prefill(self, call: SlotCall) -> Logits:
        """See SlotDevice.prefill.

        Raises:
            DeviceError: out of memory, or the call failed.
        """
        batch, sequence = call.tokens.shape
        empty = [self._empty.address] * len(self._ports.caches)
        self._prefill.bind(
            batch=batch, sequence=sequence, asked=call.asked.shape[1], slots=1, caches=empty
        )
        self._prefill.upload(call)
        self._prefill.enqueue()
        return self._finish(self._prefill, call)

    def decode(self, call: SlotCall) -> Logits:
        """See SlotDevice.decode.

        Raises:
            DeviceError: the call failed.
        """
        self._decode.upload(call)
        if self._decoded == 1 and self._record:
            self._try_recording()
        self._decoded += 1
        if self._recording is None:
            self._decode.enqueue()
        else:
            self._recording.launch(self._stream)
        return self._finish(self._decode, call)

    @property
    def cache_bytes(self) -> int:
        """Device memory of the KV cache, in bytes."""
        return self._cache.size

    @property
    def activation_bytes(self) -> int:
        """Device memory of the workspace, the inputs and the outputs, in bytes."""
        phases = self._prefill.device_bytes + self._decode.device_bytes
        return self._workspace.size + self._empty.size + phases

    def close(self) -> None:
        """Wait for the device and free everything; a second call does nothing."""
        self._memory.close()

    def _finish(self, phase: EnginePhase, call: SlotCall) -> Logits:
        copy = self._layout.copy(sequence=call.tokens.shape[1], target=call.target, kept=call.kept)
        self._stream.copy_rows(
            self._cache.address + copy.offset,
            copy.target_pitch,
            phase.new.address,
            copy.source_pitch,
            copy.width,
            copy.rows,
        )
        return phase.fetch()

    def _try_recording(self) -> None:
        reason = self._decode.unrecordable()
        if reason is not None:
            self.decode_path = f"enqueue, {reason}"
            return
        try:
            self._recording = self._stream.record(self._decode.enqueue)
        except DeviceError as error:
            self.decode_path = f"enqueue, because recording it failed: {error}"
        else:
            self.decode_path = "cuda graph"

    def _forget_recording(self) -> None:
        if self._recording is not None:
            self._stream.synchronize()
            self._recording.close()
        self._recording, self._decoded = None, 0
        self.decode_path = _NOT_YET if self._record else _NOT_ASKED

    def _cleared(self, buffer: DeviceBuffer, size: int) -> int:
        # Memory may hold NaN, and zero times NaN is NaN.
        address = buffer.reserve(size)
        self._stream.clear(address, size)
        return address

    def _buffer(self) -> DeviceBuffer:
        buffer = DeviceBuffer()
        self._memory.callback(buffer.free)
        return buffer

    def _phase(self, toolkit: Toolkit, engine: Engine, profile: int) -> EnginePhase:
        context = make_context(toolkit, engine, profile, self._stream, self._workspace)
        phase = EnginePhase(toolkit, context, self._ports, self._stream)
        self._memory.callback(phase.close)
        return phase

    def _layout_of(self, batch: int) -> SlotLayout:
        return SlotLayout(self._ports.heads, batch, self.slots, self._ports.token_bytes)
