"""Run the slot graph on ONNX Runtime's CPU, to compare the graph apart from its engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numprune_export.export.runner import Logits
from numprune_exporters.onnx.dtypes import NUMPY_TYPES
from numprune_exporters.onnx.session import Session
from numprune_exporters.runners.slot_steps import NEW, PAST, SlotCall


class SlotOnnx:
    """A SlotDevice in host memory."""

    def __init__(self, session: Session, *, capacity: int) -> None:
        self._session = session
        self._capacity = capacity
        self._ports = [port for port in session.get_inputs() if port.name.startswith(f"{PAST}.")]
        self._cache: NDArray[np.generic] = np.zeros((0, 0, 0, 0))

    def allocate(self, batch: int) -> None:
        """See SlotDevice.allocate."""
        heads, width = sum(port.shape[0] for port in self._ports), self._ports[0].shape[3]
        shape = (heads, batch, self._capacity, width)
        if self._cache.shape != shape:
            self._cache = np.zeros(shape, NUMPY_TYPES[self._ports[0].type])

    def prefill(self, call: SlotCall) -> Logits:
        """See SlotDevice.prefill."""
        # An empty slot of its own: the new entries are written to the cache afterwards.
        return self._run(call, np.zeros_like(self._cache[:, :, :1]))

    def decode(self, call: SlotCall) -> Logits:
        """See SlotDevice.decode."""
        return self._run(call, self._cache)

    def _run(self, call: SlotCall, cache: NDArray[np.generic]) -> Logits:
        feeds: dict[str, NDArray[np.generic]] = {
            "input_ids": call.tokens,
            "position_ids": call.places,
            "logits_positions": call.asked,
            "slot_positions": call.slots,
        }
        start = 0
        for port in self._ports:
            feeds[port.name] = cache[start : start + port.shape[0]]
            start += port.shape[0]
        logits, new = self._session.run(["logits", NEW], feeds)
        self._cache[:, :, call.target : call.target + call.kept] = new[:, :, : call.kept]
        typed: Logits = logits
        return typed
