"""Attention masks over the slots of the cache and the tokens of the call."""

from __future__ import annotations

import onnx_ir as ir

from numprune_exporters.graphs.writer import GraphWriter

BLOCKED = -1e30
"""Below any score, and finite in bf16. Every query may read at least itself."""


class SlotMask:
    """Additive fp32 masks, written once per window size and shared by the layers.

    A slot holds the position of its token, -1 while empty. Tokens of one call are in order, so no
    real token reads right padding.
    """

    def __init__(self, g: GraphWriter, places: ir.Value, slots: ir.Value) -> None:
        self._g = g
        self._masks: dict[int | None, ir.Value] = {}
        with g.scope("mask"):
            self._query = g.op("Unsqueeze", places, g.int64s(2))
            self._slot = g.op("Unsqueeze", slots, g.int64s(1))
            self._token = g.op("Unsqueeze", places, g.int64s(1))

    def additive(self, window: int | None) -> ir.Value:
        """0 where a query may read, BLOCKED elsewhere: (batch, sequence, capacity + sequence)."""
        g = self._g
        if window not in self._masks:
            with g.scope(f"mask.{window or 'full'}"):
                # Position -1 is before every query: empty slots need a separate condition.
                filled = g.op("GreaterOrEqual", self._slot, g.int64(0))
                past = g.op("And", filled, self._readable(self._slot, window))
                allowed = g.op("Concat", past, self._readable(self._token, window), axis=2)
                self._masks[window] = g.op("Where", allowed, g.float32(0.0), g.float32(BLOCKED))
        return self._masks[window]

    def _readable(self, key: ir.Value, window: int | None) -> ir.Value:
        """Keys not after the query and, with a window, fewer than `window` positions before it."""
        g = self._g
        allowed = g.op("LessOrEqual", key, self._query)
        if window is None:
            return allowed
        oldest = g.op("Sub", self._query, g.int64(window - 1))
        return g.op("And", allowed, g.op("GreaterOrEqual", key, oldest))
