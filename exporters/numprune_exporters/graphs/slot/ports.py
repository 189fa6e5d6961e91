"""Graph inputs and outputs of the slot graph, common to both flavours."""

from __future__ import annotations

import onnx_ir as ir

from numprune_export.export.decoder import Decoder
from numprune_exporters.graphs.writer import GraphWriter, value
from numprune_exporters.runners.slot_steps import NEW, PAST


class SlotPorts:
    """Graph inputs, and the new cache entries that the layers add."""

    def __init__(self, g: GraphWriter, decoder: Decoder) -> None:
        self._g, self._decoder = g, decoder
        self.places = value("position_ids", ir.DataType.INT64, ("batch", "sequence"))
        self.slots = value("slot_positions", ir.DataType.INT64, ("batch", "capacity"))
        self.caches = [
            (self._cache(index, "key"), self._cache(index, "value"))
            for index in range(len(decoder.layers))
        ]
        self._new: list[ir.Value] = []

    @property
    def inputs(self) -> list[ir.Value]:
        return [self.places, self.slots, *(cache for pair in self.caches for cache in pair)]

    def add(self, key: ir.Value, values: ir.Value) -> None:
        """Add the new entries of one layer, each (kv heads, batch, sequence, head_dim)."""
        self._new += [key, values]

    def new(self) -> ir.Value:
        """The graph output `new_key_values`."""
        heads = sum(2 * layer.kv_heads for layer in self._decoder.layers)
        shape = (heads, "batch", "sequence", self._decoder.head_dim)
        joined = self._g.op("Concat", *self._new, axis=0)
        return self._g.declare(joined, value(NEW, self._g.dtype, shape))

    def _cache(self, index: int, part: str) -> ir.Value:
        heads = self._decoder.layers[index].kv_heads
        shape = (heads, "batch", "capacity", self._decoder.head_dim)
        return value(f"{PAST}.{index}.{part}", self._g.dtype, shape)
