"""Layers whose KV heads serve different numbers of query heads, split into runs.

A run is a sequence of neighbouring KV heads with equal numbers of query heads. Attention operators
express one run. A layer of a single run is left unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from numprune_export.export.decoder import DecoderLayer, Projection
from numprune_exporters.graphs.writer import GraphWriter


def single_runs(layer: DecoderLayer, head_dim: int) -> tuple[DecoderLayer, ...]:
    """One layer per run, with the query, key and value rows of that run only."""
    if len(layer.runs) == 1:
        return (layer,)
    runs, query, key = [], 0, 0
    for kv_heads, size in layer.runs:
        queries, keys = kv_heads * size * head_dim, kv_heads * head_dim
        runs.append(
            replace(
                layer,
                query=_rows(layer.query, query, queries),
                key=_rows(layer.key, key, keys),
                value=_rows(layer.value, key, keys),
                groups=(size,) * kv_heads,
            )
        )
        query, key = query + queries, key + keys
    return tuple(runs)


def _rows(projection: Projection, start: int, count: int) -> Projection:
    weight, bias = projection.weight, projection.bias
    rows = slice(start, start + count)
    return Projection(weight[rows], None if bias is None else bias[rows])


def query_heads(layer: DecoderLayer) -> tuple[int, ...]:
    """Number of query heads of each run."""
    return tuple(kv_heads * size for kv_heads, size in layer.runs)


def kv_heads(layer: DecoderLayer) -> tuple[int, ...]:
    """Number of KV heads of each run."""
    return tuple(count for count, _ in layer.runs)


def split(g: GraphWriter, x: ir.Value, sizes: Sequence[int], *, axis: int) -> Sequence[ir.Value]:
    """x split along `axis` into one part per run; x itself for a single run."""
    if len(sizes) == 1:
        return (x,)
    return g.ops("Split", x, g.int64s(*sizes), outputs=len(sizes), axis=axis)


def joined(g: GraphWriter, parts: Sequence[ir.Value]) -> ir.Value:
    """The heads of all runs concatenated along the last axis."""
    return parts[0] if len(parts) == 1 else g.op("Concat", *parts, axis=-1)
