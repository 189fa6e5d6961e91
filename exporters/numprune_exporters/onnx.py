"""The `onnx` target: a graph written straight from the tensors, run by ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from numprune_export.artifact import Artifact, Availability, Decoder, Device, sha256_of
from numprune_export.errors import MissingExtraError, RecipeError
from numprune_export.optional import require
from numprune_exporters import graph_file
from numprune_exporters.checked_runner import CheckedRunner
from numprune_exporters.onnx_opening import OLDEST_RUNTIME, open_artifact

if TYPE_CHECKING:
    import onnx_ir


class OnnxSettings(BaseModel):
    """What a recipe may say under `targets.onnx`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    graph: Literal["gqa", "standard"] = "gqa"
    """`gqa`: fused attention of ONNX Runtime, fastest there. `standard`: any runtime can parse it."""
    dtype: Literal["float32", "float16"] = "float32"
    """Of weights, activations and KV cache."""


WINDOWED_RUNTIME = "1.24"
"""1.23 runs GroupQueryAttention with a sliding window and gives other logits, without an error."""


class OnnxExporter:
    """Writes `model.onnx`, its weights beside it in `model.onnx.data`, and opens them."""

    name: ClassVar[str] = "onnx"
    device: ClassVar[Device] = "cpu"
    summary: ClassVar[str] = "ONNX Runtime on the CPU; KV cache in place, fp32"
    settings: ClassVar[type[BaseModel]] = OnnxSettings

    def availability(self) -> Availability:
        """See Exporter.availability."""
        try:
            runtime = require("onnxruntime", extra="cpu")
        except MissingExtraError as error:
            return Availability(False, str(error), install=error.hint)
        return Availability(True, f"onnxruntime {runtime.__version__}")

    def export(self, decoder: Decoder, folder: Path, settings: BaseModel) -> Artifact:
        """See Exporter.export. The written graph has passed the full check of `onnx.checker`.

        Raises:
            UnsupportedModelError: the activation has no ONNX form here.
            OutputError: the folder cannot be written.
        """
        if not isinstance(settings, OnnxSettings):
            raise RecipeError(
                f"`{type(settings).__name__}` are not settings of the target `{self.name}`",
                hint="give the settings class of the target that exports",
            )
        written = graph_file.write(_model(decoder, settings), folder)
        artifact = Artifact(
            self.name,
            folder,
            graph_file.ENTRY,
            {name: sha256_of(folder / name) for name in (graph_file.ENTRY, graph_file.WEIGHTS)},
            facts={
                "graph": settings.graph,
                "dtype": settings.dtype,
                "max_positions": decoder.max_positions,
                **written,
                "needs_onnxruntime": _oldest_runtime(decoder, settings.graph),
            },
        )
        artifact.save()
        return artifact

    def open(self, artifact: Artifact, *, threads: int, capacity: int) -> CheckedRunner:
        """See Exporter.open.

        Raises:
            InputError: a file is missing or altered, or the model has fewer positions than capacity.
            MissingExtraError: onnxruntime is not installed, or too old for this graph.
        """
        return open_artifact(artifact, threads=threads, capacity=capacity)


def _oldest_runtime(decoder: Decoder, graph: str) -> str:
    windowed = any(layer.sliding_window is not None for layer in decoder.layers)
    return WINDOWED_RUNTIME if windowed and graph == "gqa" else OLDEST_RUNTIME


def _model(decoder: Decoder, settings: OnnxSettings) -> onnx_ir.Model:
    # Here and not above: opening an artifact needs no graph writer.
    from numprune_exporters import gqa_graph, standard_graph
    from numprune_exporters.decoder_parts import refuse_unsupported

    refuse_unsupported(decoder)
    build = {"gqa": gqa_graph.build, "standard": standard_graph.build}[settings.graph]
    metadata = {"graph": settings.graph, "max_positions": str(decoder.max_positions)}
    return build(decoder, metadata, settings.dtype)
