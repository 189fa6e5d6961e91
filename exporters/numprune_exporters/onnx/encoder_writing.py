"""Writing an encoder as an artifact of ONNX Runtime, its graph in one of two flavours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from numprune_export.export.artifact import Artifact, sha256_of
from numprune_export.export.encoder import Encoder
from numprune_exporters.graphs import file as graph_file
from numprune_exporters.graphs.activations import refuse_activation

if TYPE_CHECKING:
    import onnx_ir

EncoderGraph = Literal["fused", "standard"]


def write_artifact(
    target: str, encoder: Encoder, folder: Path, *, graph: EncoderGraph, dtype: str, oldest: str
) -> Artifact:
    """Write `model.onnx`, `model.onnx.data` and the index. The graph has passed `onnx.checker`.

    Args:
        oldest: The first ONNX Runtime that the target works with at all.

    Raises:
        UnsupportedModelError: the activation has no ONNX form here.
        NumericalError: a weight does not fit the dtype.
        OutputError: the folder cannot be written.
    """
    written = graph_file.write(_model(encoder, graph, dtype), folder)
    artifact = Artifact(
        target,
        folder,
        graph_file.ENTRY,
        {name: sha256_of(folder / name) for name in (graph_file.ENTRY, graph_file.WEIGHTS)},
        facts={
            "network": "encoder",
            "task": encoder.head.task,
            "graph": graph,
            "dtype": dtype,
            "max_positions": encoder.max_positions,
            **written,
            "needs_onnxruntime": oldest,
        },
    )
    artifact.save()
    return artifact


def _model(encoder: Encoder, graph: EncoderGraph, dtype: str) -> onnx_ir.Model:
    # Here and not above: opening an artifact needs no graph writer.
    from numprune_exporters.graphs.encoder import fused as encoder_fused
    from numprune_exporters.graphs.encoder import standard as encoder_standard

    refuse_activation(encoder.activation)
    build = {"fused": encoder_fused.build, "standard": encoder_standard.build}[graph]
    return build(encoder, _metadata(encoder, graph), dtype)


def _metadata(encoder: Encoder, graph: EncoderGraph) -> dict[str, str]:
    """What stands in the graph itself, since its shapes do not say it."""
    types = encoder.type_embedding
    return {
        "network": "encoder",
        "graph": graph,
        "task": encoder.head.task,
        "max_positions": str(encoder.max_positions),
        "vocabulary": str(encoder.vocabulary),
        "token_types": "0" if types is None else str(int(types.shape[0])),
    }
