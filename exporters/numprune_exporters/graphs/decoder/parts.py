"""Parts of a rotary decoder that all decoder graphs share: everything except attention.

Activations are (batch, sequence, width). Weights are stored (in, out), as MatMul reads them.
Vocabulary matrices are (vocabulary, hidden); a tied matrix is stored once. In a graph of fp16 or
bf16, norms, rotation and softmax are computed in fp32, and the logits are fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from numprune_export.export.decoder import Decoder, DecoderLayer, Projection
from numprune_exporters.graphs.writer import Array, GraphWriter, value

if TYPE_CHECKING:
    from torch import Tensor

CachePair = tuple[ir.Value, ir.Value]
"""Keys and values of one layer."""


def array(tensor: Tensor) -> Array:
    """A tensor as an fp32 numpy array; shares memory with an fp32 tensor on the CPU."""
    return np.asarray(tensor.detach().float().cpu().numpy(), dtype=np.float32)


def stored(g: GraphWriter, name: str, tensor: Tensor, dtype: ir.DataType | None = None) -> ir.Value:
    """A weight in its shape in the model."""
    return g.weight(name, tuple(tensor.shape), lambda: np.ascontiguousarray(array(tensor)), dtype)


def linear(g: GraphWriter, name: str, x: ir.Value, *projections: Projection) -> ir.Value:
    """x Wᵀ + b of projections that read the same x: one MatMul, outputs concatenated."""
    y = g.op("MatMul", x, _columns(g, f"{name}.weight", projections))
    if all(projection.bias is None for projection in projections):
        return y
    return g.op("Add", y, _biases(g, f"{name}.bias", projections))


def packed(g: GraphWriter, name: str, *projections: Projection) -> tuple[ir.Value, ir.Value]:
    """Concatenated weights (in, out) and biases; a missing bias is zeros."""
    return _columns(g, f"{name}.weight", projections), _biases(g, f"{name}.bias", projections)


def _columns(g: GraphWriter, name: str, projections: Sequence[Projection]) -> ir.Value:
    def read() -> Array:
        return np.ascontiguousarray(np.concatenate([array(p.weight) for p in projections]).T)

    return g.weight(name, (int(projections[0].weight.shape[1]), _width(projections)), read)


def _biases(g: GraphWriter, name: str, projections: Sequence[Projection]) -> ir.Value:
    def read() -> Array:
        return np.concatenate([_bias(projection) for projection in projections])

    return g.weight(name, (_width(projections),), read)


def _bias(projection: Projection) -> Array:
    if projection.bias is None:
        return np.zeros(int(projection.weight.shape[0]), np.float32)
    return array(projection.bias)


def _width(projections: Sequence[Projection]) -> int:
    return sum(int(projection.weight.shape[0]) for projection in projections)


def norm(g: GraphWriter, name: str, x: ir.Value, weight: Tensor, epsilon: float) -> ir.Value:
    """RMSNorm over the last axis in fp32, in the form that ONNX Runtime fuses into one node."""
    x = g.wide(x)
    square = g.op("Pow", x, g.float32(2.0))
    mean = g.op("ReduceMean", square, g.int64s(-1), keepdims=1)
    root = g.op("Sqrt", g.op("Add", mean, g.float32(epsilon)))
    scale = stored(g, name, weight, ir.DataType.FLOAT)
    return g.narrow(g.op("Mul", g.op("Div", x, root), scale))


def query_key_value(g: GraphWriter, x: ir.Value, *layers: DecoderLayer) -> ir.Value:
    """Concatenated queries, keys and values of x, layer by layer."""
    projections = (p for layer in layers for p in (layer.query, layer.key, layer.value))
    return linear(g, "attention.qkv", x, *projections)


def split_heads(
    g: GraphWriter,
    decoder: Decoder,
    layer: DecoderLayer,
    packed: ir.Value,
    norm: Callable[[str, ir.Value, Tensor], ir.Value],
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Packed q, k, v to three values (batch, sequence, heads, head_dim).

    q and k are normed where the layer has these norms.
    """
    dim, counts = decoder.head_dim, (layer.query_heads, layer.kv_heads, layer.kv_heads)
    parts = g.ops("Split", packed, g.int64s(*(n * dim for n in counts)), outputs=3, axis=-1)
    heads = [
        g.op("Reshape", part, g.int64s(0, 0, count, dim))
        for part, count in zip(parts, counts, strict=True)
    ]
    for index, (name, weight) in enumerate(
        (("query_norm", layer.query_norm), ("key_norm", layer.key_norm))
    ):
        if weight is not None:
            heads[index] = norm(f"attention.{name}", heads[index], weight)
    return heads[0], heads[1], heads[2]


def gated(g: GraphWriter, decoder: Decoder, layer: DecoderLayer, x: ir.Value) -> ir.Value:
    """activation(gate(x)) * up(x), the input of down_proj."""
    gate = linear(g, "mlp.gate", x, layer.gate)
    up = linear(g, "mlp.up", x, layer.up)
    return g.op("Mul", activated(g, decoder.activation, gate), up)


def activated(g: GraphWriter, name: str, x: ir.Value) -> ir.Value:
    """The activation `name` (one of `activations.ACTIVATIONS`) of x."""
    if name in ("silu", "swish"):
        return g.op("Mul", x, g.op("Sigmoid", x))
    if name == "relu":
        return g.op("Relu", x)
    return g.op("Gelu", x, approximate="none" if name == "gelu" else "tanh")


def select(g: GraphWriter, x: ir.Value, positions: ir.Value) -> ir.Value:
    """Rows of x (batch, sequence, width) at `positions` (batch, k): (batch, k, width)."""
    return g.op("GatherND", x, g.op("Unsqueeze", positions, g.int64s(-1)), batch_dims=1)


def vocabulary_logits(
    g: GraphWriter, decoder: Decoder, table: ir.Value, x: ir.Value, positions: ir.Value
) -> ir.Value:
    """The graph output `logits` (batch, k, vocabulary) of x (batch, k, hidden)."""
    head = table if decoder.tied else stored(g, "head.weight", decoder.head.weight)
    bias = decoder.head.bias
    terms = () if bias is None else (stored(g, "head.bias", bias),)
    rows = g.op("Reshape", x, g.int64s(-1, decoder.hidden))
    flat = g.wide(g.op("Gemm", rows, head, *terms, transB=1))
    shape = g.op("Concat", g.op("Shape", positions), g.int64s(decoder.vocabulary), axis=0)
    logits = value("logits", ir.DataType.FLOAT, ("batch", "k", decoder.vocabulary))
    return g.declare(g.op("Reshape", flat, shape), logits)


def cache_values(
    g: GraphWriter, decoder: Decoder, name: str, length: str, width: int
) -> list[CachePair]:
    """Graph inputs or outputs `name.{layer}.{key,value}` (batch, kv heads, length, width)."""
    return [
        cache_pair(g, f"{name}.{index}", layer.kv_heads, length, width)
        for index, layer in enumerate(decoder.layers)
    ]


def cache_pair(g: GraphWriter, name: str, heads: int, length: str, width: int) -> CachePair:
    """Graph inputs or outputs `name.{key,value}` (batch, heads, length, width)."""
    shape = ("batch", heads, length, width)
    return value(f"{name}.key", g.dtype, shape), value(f"{name}.value", g.dtype, shape)


def flat(pairs: Sequence[CachePair]) -> list[ir.Value]:
    return [cache for pair in pairs for cache in pair]
