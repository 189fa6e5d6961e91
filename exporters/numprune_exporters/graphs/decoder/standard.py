"""Graph of standard operators for any runtime; the KV cache grows by Concat.

Inputs: `input_ids` (batch, sequence) int64; `attention_mask` (batch, total) int64, 1 for real
tokens, including past tokens; `position_ids` (batch, sequence) int64; `logits_positions` (batch, k)
int64, the input tokens whose logits are returned; `past_key_values.{i}.{key,value}`
(batch, kv heads, past, head_dim) of the graph's dtype, past = total - sequence.
Outputs: `logits` (batch, k, vocabulary) fp32; `present.{i}.{key,value}`
(batch, kv heads, total, head_dim), the past of the next call.

Padding may be on either side: masked positions stay in the cache and are never read. Query heads
are grouped by KV head; KV heads are not repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from numprune_export.export.decoder import Decoder, DecoderLayer
from numprune_exporters.graphs.decoder import frame as decoder_frame
from numprune_exporters.graphs.decoder import parts, query_groups
from numprune_exporters.graphs.decoder.rotary import Rotation
from numprune_exporters.graphs.decoder.standard_mask import MaskWriter
from numprune_exporters.graphs.writer import GraphWriter, value

if TYPE_CHECKING:
    from torch import Tensor

OPSETS = {"": 20}


def build(decoder: Decoder, metadata: dict[str, str], dtype: str = "float32") -> ir.Model:
    """The model with unread weights; inputs and outputs: see the module docstring."""
    g = GraphWriter(dtype)
    tokens = value("input_ids", ir.DataType.INT64, ("batch", "sequence"))
    attention = _GroupedAttention(g, decoder, tokens)
    return decoder_frame.write(g, decoder, tokens, attention, opsets=OPSETS, metadata=metadata)


class _GroupedAttention:
    """Attention in basic operators; all layers share the masks and the rotation."""

    def __init__(self, g: GraphWriter, decoder: Decoder, tokens: ir.Value) -> None:
        self._g, self._decoder = g, decoder
        mask = value("attention_mask", ir.DataType.INT64, ("batch", "total"))
        places = value("position_ids", ir.DataType.INT64, ("batch", "sequence"))
        width = decoder.head_dim
        self._pasts = parts.cache_values(g, decoder, "past_key_values", "past", width)
        self._presents = parts.cache_values(g, decoder, "present", "total", width)
        self.inputs = (mask, places, *parts.flat(self._pasts))
        self._masks = MaskWriter(g, tokens, mask, places)
        self._rotation = Rotation(g, decoder, places)

    def norm(self, name: str, x: ir.Value, weight: Tensor) -> ir.Value:
        """See Flavour.norm."""
        return parts.norm(self._g, name, x, weight, self._decoder.norm_eps)

    def outputs(self) -> list[ir.Value]:
        """See Flavour.outputs."""
        return parts.flat(self._presents)

    def mix(self, index: int, layer: DecoderLayer, x: ir.Value) -> ir.Value:
        """See Flavour.mix."""
        g = self._g
        packed = parts.query_key_value(g, x, layer)
        query, key, values = parts.split_heads(g, self._decoder, layer, packed, self.norm)
        query = g.op("Mul", query, g.number(self._decoder.head_dim**-0.5))
        query, key = self._rotation.rotated(query), self._rotation.rotated(key)
        keys, values = (
            g.declare(g.op("Concat", old, g.op("Transpose", new, perm=(0, 2, 1, 3)), axis=2), port)
            for old, new, port in zip(
                self._pasts[index], (key, values), self._presents[index], strict=True
            )
        )
        mixed = [
            self._grouped(layer.sliding_window, *run)
            for run in zip(
                layer.runs,
                query_groups.split(g, query, query_groups.query_heads(layer), axis=2),
                query_groups.split(g, keys, query_groups.kv_heads(layer), axis=1),
                query_groups.split(g, values, query_groups.kv_heads(layer), axis=1),
                strict=True,
            )
        ]
        return query_groups.joined(g, mixed)

    def _grouped(
        self,
        window: int | None,
        run: tuple[int, int],
        query: ir.Value,
        keys: ir.Value,
        values: ir.Value,
    ) -> ir.Value:
        """softmax(q kᵀ + mask) v; the queries of one KV head are rows of one matrix."""
        g, dim, (kv, group) = self._g, self._decoder.head_dim, run
        query = g.op("Reshape", query, g.int64s(0, 0, kv, group, dim))
        query = g.op("Transpose", query, perm=(0, 2, 3, 1, 4))
        stacked = g.op("Reshape", query, g.int64s(0, kv, -1, dim))
        scores = g.wide(g.op("MatMul", stacked, g.op("Transpose", keys, perm=(0, 1, 3, 2))))
        apart = g.op("Reshape", scores, self._masks.score_shape(kv, group))
        masked = g.op("Add", apart, self._masks.additive(window))
        weights = g.narrow(g.op("Softmax", masked, axis=-1))
        mixed = g.op("MatMul", g.op("Reshape", weights, self._masks.row_shape(kv)), values)
        mixed = g.op("Reshape", mixed, g.int64s(0, kv, group, -1, dim))
        mixed = g.op("Transpose", mixed, perm=(0, 3, 1, 2, 4))
        return g.op("Reshape", mixed, g.int64s(0, 0, kv * group * dim))
