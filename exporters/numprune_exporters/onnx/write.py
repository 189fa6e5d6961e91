"""Writing a decoder as an artifact of ONNX Runtime: the same two graphs, whatever device they run on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from numprune_export.export.artifact import Artifact, sha256_of
from numprune_export.export.decoder import Decoder
from numprune_exporters.graphs import file as graph_file
from numprune_exporters.graphs.activations import refuse_activation

if TYPE_CHECKING:
    import onnx_ir

OnnxGraph = Literal["gqa", "standard"]

WINDOWED_RUNTIME = "1.24"
"""1.23 runs GroupQueryAttention with a sliding window and gives other logits, without an error."""


def write_artifact(
    target: str, decoder: Decoder, folder: Path, *, graph: OnnxGraph, dtype: str, oldest: str
) -> Artifact:
    """Write `model.onnx`, `model.onnx.data` and the index. The graph has passed `onnx.checker`.

    Args:
        oldest: The first ONNX Runtime that the target works with at all.

    Raises:
        UnsupportedModelError: the activation has no ONNX form here.
        NumericalError: a weight does not fit the dtype.
        OutputError: the folder cannot be written.
    """
    written = graph_file.write(_model(decoder, graph, dtype), folder)
    windowed = any(layer.sliding_window is not None for layer in decoder.layers)
    artifact = Artifact(
        target,
        folder,
        graph_file.ENTRY,
        {name: sha256_of(folder / name) for name in (graph_file.ENTRY, graph_file.WEIGHTS)},
        facts={
            "graph": graph,
            "dtype": dtype,
            "max_positions": decoder.max_positions,
            **written,
            "needs_onnxruntime": WINDOWED_RUNTIME if windowed and graph == "gqa" else oldest,
        },
    )
    artifact.save()
    return artifact


def _model(decoder: Decoder, graph: OnnxGraph, dtype: str) -> onnx_ir.Model:
    # Here and not above: opening an artifact needs no graph writer.
    from numprune_exporters.graphs.decoder import gqa as gqa_graph
    from numprune_exporters.graphs.decoder import standard as standard_graph

    refuse_activation(decoder.activation)
    build = {"gqa": gqa_graph.build, "standard": standard_graph.build}[graph]
    metadata = {"graph": graph, "max_positions": str(decoder.max_positions)}
    return build(decoder, metadata, dtype)
