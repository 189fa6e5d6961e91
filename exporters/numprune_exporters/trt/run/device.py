"""A SlotDevice: the engine on the GPU, its KV cache one array there that new entries are copied into."""

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

_NOT_YET = "enqueue, no step was recorded yet"
_NOT_ASKED = "enqueue, as asked for"


class EngineDevice:
    """All buffers are its own and made once per batch; both phases compute in one workspace.

    Shapes and addresses of a decode step depend on the batch alone. The first step of a batch runs
    as it is, because TensorRT finishes its setup there. The second is recorded as a CUDA graph,
    which is launched from then on. The copy into the cache stays outside: its target moves.
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
        """Make the contexts; the cache waits for a batch.

        Args:
            slots: Of the cache; every layer must begin at an aligned address.
            record: launch decode steps as a CUDA graph; False: one kernel after the other.

        Raises:
            DeviceError: out of memory, or TensorRT cannot make a context.
        """
        self._ports, self.slots = ports, slots
        self._layout = self._layout_of(0)
        self._record = record
        self._recording: Recording | None = None
        self._decoded = 0
        self.decode_path = _NOT_YET if record else _NOT_ASKED
        """How decode steps are run now: `cuda graph`, or `enqueue` and why."""
        self._memory = ExitStack()  # gives back in reverse order
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
        # What a prefill reads as its one empty slot: read by all layers, written by none.
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
        """Device memory of the KV cache."""
        return self._cache.size

    @property
    def activation_bytes(self) -> int:
        """Device memory of the workspace and of what goes in and out."""
        phases = self._prefill.device_bytes + self._decode.device_bytes
        return self._workspace.size + self._empty.size + phases

    def close(self) -> None:
        """Wait for the device and give back everything; a second call does nothing."""
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
        refused = self._decode.unrecordable()
        if refused is not None:
            self.decode_path = f"enqueue, {refused}"
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
        # Memory may hold NaN, which a weight of zero does not remove.
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
