"""Graph for TensorRT: it reads a KV cache of fixed capacity and returns the new entries.

Inputs: `input_ids` (batch, sequence) int64; `logits_positions` (batch, k) int64, the input tokens
whose logits are returned; `position_ids` (batch, sequence) int64; `slot_positions`
(batch, capacity) int64, the position of the token in each slot of the cache, -1 for an empty slot;
`past_key_values.{i}.{key,value}` (kv heads, batch, capacity, head_dim) of the graph's dtype.
Outputs: `logits` (batch, k, vocabulary) fp32; `new_key_values`, the new entries of all layers in
the order of the inputs (sum of their heads, batch, sequence, head_dim).

Heads are the first axis, so the caches of all layers form one array (heads, batch, capacity,
head_dim). One strided copy writes the new entries. No shape of a decode step depends on the fill of
the cache, so the step can be recorded once as a CUDA graph. The tokens of a call are right-padded.
Query heads are grouped by KV head; KV heads are not repeated.

`decomposed` uses basic operators of opset 20. `fused` uses the Attention, RotaryEmbedding and
RMSNormalization operators of opset 23, for parsers that support them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import onnx_ir as ir

from numprune_export.export.decoder import Decoder
from numprune_exporters.graphs.decoder import frame as decoder_frame
from numprune_exporters.graphs.slot.decomposed import Decomposed
from numprune_exporters.graphs.slot.fused import Fused
from numprune_exporters.graphs.slot.ports import SlotPorts
from numprune_exporters.graphs.writer import GraphWriter, value

SlotGraph = Literal["fused", "decomposed"]
OPSETS: dict[SlotGraph, int] = {"fused": 23, "decomposed": 20}
_FLAVOURS: dict[SlotGraph, Callable[[GraphWriter, Decoder, SlotPorts], decoder_frame.Flavour]] = {
    "fused": Fused,
    "decomposed": Decomposed,
}


def build(
    decoder: Decoder, metadata: dict[str, str], dtype: str, graph: SlotGraph = "decomposed"
) -> ir.Model:
    """The model with unread weights; inputs and outputs: see the module docstring."""
    g = GraphWriter(dtype)
    tokens = value("input_ids", ir.DataType.INT64, ("batch", "sequence"))
    flavour = _FLAVOURS[graph](g, decoder, SlotPorts(g, decoder))
    return decoder_frame.write(
        g, decoder, tokens, flavour, opsets={"": OPSETS[graph]}, metadata=metadata
    )
