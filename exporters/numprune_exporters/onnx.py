"""The `onnx` target: a graph written straight from the tensors, run by ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from numprune_export.artifact import Artifact, Availability, Decoder, Device
from numprune_export.errors import MissingExtraError, RecipeError
from numprune_export.optional import require
from numprune_exporters.checked_runner import CheckedRunner
from numprune_exporters.onnx_opening import OLDEST_RUNTIME, open_artifact
from numprune_exporters.onnx_writing import OnnxGraph, write_artifact


class OnnxSettings(BaseModel):
    """What a recipe may say under `targets.onnx`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    graph: OnnxGraph = "gqa"
    """`gqa`: fused attention of ONNX Runtime, fastest there. `standard`: any runtime can parse it."""
    dtype: Literal["float32", "float16"] = "float32"
    """Of weights, activations and KV cache."""


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
        """See Exporter.export and `write_artifact`."""
        if not isinstance(settings, OnnxSettings):
            raise RecipeError(
                f"`{type(settings).__name__}` are not settings of the target `{self.name}`",
                hint="give the settings class of the target that exports",
            )
        return write_artifact(
            self.name,
            decoder,
            folder,
            graph=settings.graph,
            dtype=settings.dtype,
            oldest=OLDEST_RUNTIME,
        )

    def open(self, artifact: Artifact, *, threads: int, capacity: int) -> CheckedRunner:
        """See Exporter.open.

        Raises:
            InputError: a file is missing or altered, or the model has fewer positions than capacity.
            MissingExtraError: onnxruntime is not installed, or too old for this graph.
        """
        return open_artifact(artifact, threads=threads, capacity=capacity)
