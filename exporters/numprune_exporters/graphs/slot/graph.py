"""The graph for TensorRT: a KV cache of fixed capacity that is only read, new entries come out.

Inputs: `input_ids` (batch, sequence) int64; `logits_positions` (batch, k) int64, which of the given
tokens get logits; `position_ids` (batch, sequence) int64; `slot_positions` (batch, capacity) int64,
the position of the token in each slot of the cache, -1 where it is empty;
`past_key_values.{i}.{key,value}` (kv heads, batch, capacity, head_dim) of the graph's dtype.
Outputs: `logits` (batch, k, vocabulary) fp32; `new_key_values`, all layers' new entries in the order
of the inputs, (sum of their heads, batch, sequence, head_dim).

Heads stand first, so that the caches of all layers, laid end to end, are one array
(heads, batch, capacity, head_dim), into which the new entries go by a single strided copy. No shape
of a decode step depends on how full the cache is, so that its launch can be recorded once.
A call's tokens are right-padded. Query heads are grouped over their KV head, never repeated.

`decomposed` writes every part in single operators of opset 20. `fused` writes the Attention,
RotaryEmbedding and RMSNormalization operators of opset 23, for parsers that know them.
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
    """The model, its weights still to be read; see the module for inputs and outputs."""
    g = GraphWriter(dtype)
    tokens = value("input_ids", ir.DataType.INT64, ("batch", "sequence"))
    flavour = _FLAVOURS[graph](g, decoder, SlotPorts(g, decoder))
    return decoder_frame.write(
        g, decoder, tokens, flavour, opsets={"": OPSETS[graph]}, metadata=metadata
    )
