"""The `onnx` target: a graph written straight from the tensors, run by ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from numprune_export.core.errors import MissingExtraError, RecipeError
from numprune_export.core.optional import require
from numprune_export.export.artifact import Artifact
from numprune_export.export.decoder import Decoder
from numprune_export.export.encoder import Encoder
from numprune_export.export.exporter import Availability
from numprune_export.export.runner import Device, EncoderRunner
from numprune_exporters.graphs.activations import refuse_activation
from numprune_exporters.onnx import encoder_opening, encoder_writing
from numprune_exporters.onnx.encoder_writing import EncoderGraph
from numprune_exporters.onnx.open import OLDEST_RUNTIME, open_artifact
from numprune_exporters.onnx.write import OnnxGraph, write_artifact
from numprune_exporters.runners.decoder import CheckedRunner


class OnnxSettings(BaseModel):
    """What a recipe may say under `targets.onnx`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    graph: OnnxGraph | EncoderGraph | None = None
    """`gqa` (decoders) and `fused` (encoders): fused attention of ONNX Runtime, fastest there.
    `standard`: any runtime can parse it. null: the fused one."""
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

    def check(self, decoder: Decoder, settings: BaseModel, longest: int) -> None:
        """See ChecksDecoders.check."""
        _decoder_graph(_given(settings))
        refuse_activation(decoder.activation)

    def check_encoder(self, encoder: Encoder, settings: BaseModel) -> None:
        """See ChecksEncoders.check_encoder."""
        _encoder_graph(_given(settings))
        refuse_activation(encoder.activation)

    def export(self, decoder: Decoder, folder: Path, settings: BaseModel) -> Artifact:
        """See Exporter.export and `write_artifact`."""
        given = _given(settings)
        return write_artifact(
            self.name,
            decoder,
            folder,
            graph=_decoder_graph(given),
            dtype=given.dtype,
            oldest=OLDEST_RUNTIME,
        )

    def open(self, artifact: Artifact, *, threads: int, capacity: int) -> CheckedRunner:
        """See Exporter.open.

        Raises:
            InputError: a file is missing or altered, or the model has fewer positions than capacity.
            MissingExtraError: onnxruntime is not installed, or too old for this graph.
        """
        return open_artifact(artifact, threads=threads, capacity=capacity)

    def export_encoder(self, encoder: Encoder, folder: Path, settings: BaseModel) -> Artifact:
        """See EncoderTarget.export_encoder and `encoder_writing.write_artifact`."""
        given = _given(settings)
        return encoder_writing.write_artifact(
            self.name,
            encoder,
            folder,
            graph=_encoder_graph(given),
            dtype=given.dtype,
            oldest=OLDEST_RUNTIME,
        )

    def open_encoder(self, artifact: Artifact, *, threads: int) -> EncoderRunner:
        """See EncoderTarget.open_encoder and `encoder_opening.open_encoder`."""
        return encoder_opening.open_encoder(artifact, threads=threads)


def _given(settings: BaseModel) -> OnnxSettings:
    if not isinstance(settings, OnnxSettings):
        raise RecipeError(
            f"`{type(settings).__name__}` are not settings of the target `onnx`",
            hint="give the settings class of the target that exports",
        )
    return settings


def _decoder_graph(given: OnnxSettings) -> OnnxGraph:
    if given.graph == "fused":
        raise _other_network(given.graph, "encoders", ("gqa", "standard"))
    return given.graph or "gqa"


def _encoder_graph(given: OnnxSettings) -> EncoderGraph:
    if given.graph == "gqa":
        raise _other_network(given.graph, "decoders", ("fused", "standard"))
    return given.graph or "fused"


def _other_network(graph: str, takes: str, instead: tuple[str, str]) -> RecipeError:
    return RecipeError(
        f"`targets.onnx.graph`: `{graph}` is a graph of {takes}",
        hint=f"use `{instead[0]}` or `{instead[1]}`, or leave it out",
    )
