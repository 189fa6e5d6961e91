"""Additive attention masks of the standard-operator graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from numprune_exporters.graphs.writer import GraphWriter

BLOCKED = float(np.finfo(np.float32).min)
"""Finite, so that a fully masked row of a padded query does not become NaN."""


class MaskWriter:
    """Writes each distinct mask once; layers share it.

    Causality follows the order in the cache. The distance in a sliding window counts real tokens,
    so padding on either side does not shift it.
    """

    def __init__(self, g: GraphWriter, tokens: ir.Value, mask: ir.Value, places: ir.Value) -> None:
        self._g, self._places, self._mask = g, places, mask
        self._masks: dict[int | None, ir.Value] = {}
        self._shapes: dict[tuple[int, ...], ir.Value] = {}
        with g.scope("mask"):
            self._sequence = g.op("Shape", tokens, start=1, end=2)
            self._total = g.op("Shape", mask, start=1, end=2)
            self._causal = self._visible()

    def additive(self, window: int | None) -> ir.Value:
        """0 where a key may be read, BLOCKED elsewhere: (batch, 1, 1, sequence, total)."""
        g = self._g
        if window not in self._masks:
            with g.scope(f"mask.{window or 'full'}"):
                allowed = self._causal
                if window is not None:
                    allowed = g.op("And", allowed, self._near(window))
                added = g.op("Where", allowed, g.float32(0.0), g.float32(BLOCKED))
                self._masks[window] = g.op("Unsqueeze", added, g.int64s(1, 2))
        return self._masks[window]

    def score_shape(self, kv_heads: int, group: int) -> ir.Value:
        """Shape (batch, kv heads, group, sequence, total) for Reshape."""
        return self._shape(kv_heads, group, -1)

    def row_shape(self, kv_heads: int) -> ir.Value:
        """Shape (batch, kv heads, group * sequence, total) for Reshape."""
        return self._shape(kv_heads, -1)

    def _shape(self, *middle: int) -> ir.Value:
        if middle not in self._shapes:
            head = self._g.int64s(0, *middle)
            self._shapes[middle] = self._g.op("Concat", head, self._total, axis=0)
        return self._shapes[middle]

    def _visible(self) -> ir.Value:
        """Real keys up to the query's own cache position: (batch, sequence, total)."""
        g = self._g
        total, sequence = g.op("Squeeze", self._total), g.op("Squeeze", self._sequence)
        slots = g.op("Range", g.int64(0), total, g.int64(1))
        own = g.op("Range", g.op("Sub", total, sequence), total, g.int64(1))
        past = g.op("LessOrEqual", slots, g.op("Unsqueeze", own, g.int64s(1)))
        real = g.cast(self._mask, ir.DataType.BOOL)
        return g.op("And", past, g.op("Unsqueeze", real, g.int64s(1)))

    def _near(self, window: int) -> ir.Value:
        """Keys fewer than `window` real tokens before the query: (batch, sequence, total)."""
        g = self._g
        # Counted in fp32, exact below 2^24: TensorRT has no integer CumSum.
        real = g.cast(self._mask, ir.DataType.FLOAT)
        counted = g.op("CumSum", real, g.int64(1))
        places = g.cast(self._places, ir.DataType.FLOAT)
        oldest = g.op("Sub", places, g.float32(float(window - 1)))
        key_places = g.op("Unsqueeze", g.op("Sub", counted, g.float32(1.0)), g.int64s(1))
        return g.op("GreaterOrEqual", key_places, g.op("Unsqueeze", oldest, g.int64s(2)))
