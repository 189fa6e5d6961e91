"""Write a network as an ONNX Runtime artifact; the graphs are the same for every device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from numprune_export.export.artifact import Artifact, Network, sha256_of
from numprune_export.export.decoder import Decoder
from numprune_export.export.encoder import Encoder
from numprune_exporters.graphs import file as graph_file
from numprune_exporters.graphs.activations import refuse_activation

if TYPE_CHECKING:
    import onnx_ir

DecoderGraph = Literal["gqa", "standard"]
EncoderGraph = Literal["fused", "standard"]
Graph = DecoderGraph | EncoderGraph

GRAPHS: Mapping[Network, tuple[Graph, ...]] = {
    "decoder": ("gqa", "standard"),
    "encoder": ("fused", "standard"),
}
"""Graphs of each kind of network, the fastest first."""

WINDOWED_RUNTIME = "1.24"
"""1.23 returns wrong logits for GroupQueryAttention with a sliding window, without an error."""


def write_artifact(
    target: str,
    network: Decoder | Encoder,
    folder: Path,
    *,
    graph: Graph,
    dtype: str,
    oldest: str,
) -> Artifact:
    """Write `model.onnx`, `model.onnx.data` and the index, and check the graph with `onnx.checker`.

    Args:
        graph: One of `GRAPHS[network.kind]`.
        oldest: The oldest ONNX Runtime that the target supports.

    Raises:
        UnsupportedModelError: the graphs do not support the activation.
        NumericalError: a weight does not fit the dtype.
        OutputError: the folder cannot be written.
    """
    written = graph_file.write(_model(network, graph, dtype), folder)
    artifact = Artifact(
        target,
        folder,
        graph_file.ENTRY,
        {name: sha256_of(folder / name) for name in (graph_file.ENTRY, graph_file.WEIGHTS)},
        facts={
            **_task(network),
            "graph": graph,
            "dtype": dtype,
            "max_positions": network.max_positions,
            **written,
            "needs_onnxruntime": WINDOWED_RUNTIME if _windowed(network, graph) else oldest,
        },
    )
    artifact.save()
    return artifact


def _task(network: Decoder | Encoder) -> dict[str, str]:
    """Facts of an encoder; an artifact without them is a decoder."""
    if not isinstance(network, Encoder):
        return {}
    return {"network": network.kind, "task": network.head.task}


def _windowed(network: Decoder | Encoder, graph: Graph) -> bool:
    if graph != "gqa" or not isinstance(network, Decoder):
        return False
    return any(layer.sliding_window is not None for layer in network.layers)


def _model(network: Decoder | Encoder, graph: Graph, dtype: str) -> onnx_ir.Model:
    if isinstance(network, Encoder):
        return _encoder_model(network, graph, dtype)
    return _decoder_model(network, graph, dtype)


def _decoder_model(decoder: Decoder, graph: Graph, dtype: str) -> onnx_ir.Model:
    # Imported here: opening an artifact must not import the graph writer.
    from numprune_exporters.graphs.decoder import gqa, standard

    refuse_activation(decoder.activation)
    build = {"gqa": gqa.build, "standard": standard.build}[graph]
    metadata = {"graph": graph, "max_positions": str(decoder.max_positions)}
    return build(decoder, metadata, dtype)


def _encoder_model(encoder: Encoder, graph: Graph, dtype: str) -> onnx_ir.Model:
    from numprune_exporters.graphs.encoder import fused, standard

    refuse_activation(encoder.activation)
    build = {"fused": fused.build, "standard": standard.build}[graph]
    return build(encoder, _encoder_metadata(encoder, graph), dtype)


def _encoder_metadata(encoder: Encoder, graph: Graph) -> dict[str, str]:
    """Metadata stored in the graph itself, because its shapes do not contain them."""
    types = encoder.type_embedding
    return {
        "network": encoder.kind,
        "graph": graph,
        "task": encoder.head.task,
        "max_positions": str(encoder.max_positions),
        "vocabulary": str(encoder.vocabulary),
        "token_types": "0" if types is None else str(int(types.shape[0])),
    }
