"""One phase of an engine, prefill or decode: its execution context and its buffers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numprune_export.core.errors import DeviceError
from numprune_export.export.runner import Logits
from numprune_exporters.cuda.buffer import DeviceBuffer, PinnedBuffer
from numprune_exporters.cuda.stream import Stream
from numprune_exporters.runners.slot_steps import NEW, SlotCall
from numprune_exporters.trt.cache_layout import ALIGNMENT
from numprune_exporters.trt.messages import reason
from numprune_exporters.trt.run.ports import EnginePorts
from numprune_exporters.trt.toolkit import Toolkit

_FLOAT32 = np.dtype(np.float32)
_INT64 = np.dtype(np.int64)


class EnginePhase:
    """A call is `bind` (for new shapes), then `upload`, `enqueue`, `fetch`.

    Each phase has its own context: switching profiles in one context would need a device wait and a
    new recording of the decode step after every prompt.
    """

    def __init__(self, toolkit: Toolkit, context: Any, ports: EnginePorts, stream: Stream) -> None:
        self._toolkit, self._context = toolkit, context
        self._ports, self._stream = ports, stream
        self._staged, self._inputs = PinnedBuffer(), DeviceBuffer()
        self._places: dict[str, tuple[int, tuple[int, ...]]] = {}
        self._fetched, self._logits = PinnedBuffer(), DeviceBuffer()
        self._asked: tuple[int, ...] = ()
        self.new = DeviceBuffer()
        """New cache entries (heads, batch, sequence, head_dim)."""

    def bind(
        self, *, batch: int, sequence: int, asked: int, slots: int, caches: Sequence[int]
    ) -> None:
        """Set the shapes and addresses of the following calls; buffers grow as needed.

        Args:
            batch: Rows.
            sequence: Tokens per row.
            asked: Positions per row whose logits are returned.
            slots: Cache slots that are read.
            caches: Address of each cache input.

        Raises:
            DeviceError: out of memory, or TensorRT refuses a shape.
        """
        self._place_inputs(
            {
                "input_ids": (batch, sequence),
                "position_ids": (batch, sequence),
                "logits_positions": (batch, asked),
                "slot_positions": (batch, slots),
            }
        )
        self._asked = (batch, asked, self._ports.vocabulary)
        logits = int(np.prod(self._asked)) * _FLOAT32.itemsize
        self._fetched.reserve(logits)
        self._address("logits", self._logits.reserve(logits))
        entries = sum(self._ports.heads) * batch * sequence * self._ports.token_bytes
        self._address(NEW, self.new.reserve(entries))
        for name, heads, address in zip(self._ports.caches, self._ports.heads, caches, strict=True):
            self._shape(name, (heads, batch, slots, self._ports.head_dim))
            self._address(name, address)

    def upload(self, call: SlotCall) -> None:
        """Upload the call's arrays in one copy."""
        arrays = (call.tokens, call.places, call.asked, call.slots)
        for (offset, shape), array in zip(self._places.values(), arrays, strict=True):
            self._staged.array(offset, shape, _INT64)[...] = array
        self._stream.upload(self._inputs.address, self._staged.address, self._used)

    def enqueue(self) -> None:
        """Submit the engine's work to the stream.

        Raises:
            DeviceError: TensorRT refuses to run it.
        """
        self._call("execute_async_v3", self._stream.handle)

    def fetch(self) -> Logits:
        """Wait for the stream and return a copy of the logits (batch, asked, vocabulary), fp32."""
        size = int(np.prod(self._asked)) * _FLOAT32.itemsize
        self._stream.download(self._fetched.address, self._logits.address, size)
        self._stream.synchronize()
        logits: Logits = self._fetched.array(0, self._asked, _FLOAT32).astype(np.float32)
        return logits

    def unrecordable(self) -> str | None:
        """Why a call cannot be recorded; None: it can, or TensorRT does not report it."""
        # Only TensorRT-RTX reports it; with TensorRT the recording itself fails.
        ask = getattr(self._context, "is_stream_capturable", None)
        if ask is None or ask(self._stream.handle):
            return None
        return "because TensorRT cannot record it"

    @property
    def device_bytes(self) -> int:
        """Device memory of this phase's buffers, in bytes."""
        return self._inputs.size + self._logits.size + self.new.size

    def close(self) -> None:
        """Free all memory; no work may be running."""
        self._context = None
        for buffer in (self._inputs, self._logits, self.new, self._staged, self._fetched):
            buffer.free()

    def _place_inputs(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Place all inputs in one buffer, each at an aligned offset."""
        self._places, self._used = {}, 0
        for name, shape in shapes.items():
            self._places[name] = (self._used, shape)
            size = int(np.prod(shape)) * _INT64.itemsize
            self._used += -(-size // ALIGNMENT) * ALIGNMENT
        self._staged.reserve(self._used)
        address = self._inputs.reserve(self._used)
        for name, (offset, shape) in self._places.items():
            self._shape(name, shape)
            self._address(name, address + offset)

    def _shape(self, name: str, shape: tuple[int, ...]) -> None:
        self._call("set_input_shape", name, shape)

    def _address(self, name: str, address: int) -> None:
        self._call("set_tensor_address", name, address)

    def _call(self, method: str, *arguments: Any) -> None:
        with self._toolkit.listening() as messages:
            accepted = getattr(self._context, method)(*arguments)
        if not accepted:
            raise DeviceError(
                f"{self._toolkit.title} refused `{method}` with `{arguments}`: {reason(messages)}",
                hint="export the model again with the version installed here",
            )
