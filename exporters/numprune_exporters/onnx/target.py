"""The `onnx` target: a graph written directly from the tensors, run by ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from numprune_export.core.errors import MissingExtraError, RecipeError
from numprune_export.core.optional import require
from numprune_export.export.artifact import Artifact, Network
from numprune_export.export.decoder import Decoder
from numprune_export.export.encoder import Encoder
from numprune_export.export.exporter import Availability
from numprune_export.export.runner import Device
from numprune_exporters.graphs.activations import refuse_activation
from numprune_exporters.onnx.open import OLDEST_RUNTIME, open_artifact
from numprune_exporters.onnx.write import GRAPHS, Graph, write_artifact
from numprune_exporters.runners.decoder import CheckedRunner

if TYPE_CHECKING:
    from numprune_exporters.onnx.encoder_runner import OnnxEncoderRunner


class OnnxSettings(BaseModel):
    """Recipe settings under `targets.onnx`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    graph: Graph | None = None
    """`gqa` (decoders) and `fused` (encoders): fused attention of ONNX Runtime, the fastest there.
    `standard`: standard operators, for any runtime. null: the fused graph."""
    dtype: Literal["float32", "float16"] = "float32"
    """Dtype of weights, activations and KV cache."""


class OnnxExporter:
    """Writes `model.onnx` with its weights in `model.onnx.data`, and opens them."""

    name: ClassVar[str] = "onnx"
    device: ClassVar[Device] = "cpu"
    summary: ClassVar[str] = "ONNX Runtime on the CPU; KV cache in place, fp32"
    settings: ClassVar[type[BaseModel]] = OnnxSettings
    networks: ClassVar[frozenset[Network]] = frozenset({"decoder", "encoder"})

    def availability(self) -> Availability:
        """See Exporter.availability."""
        try:
            runtime = require("onnxruntime", extra="cpu")
        except MissingExtraError as error:
            return Availability(False, str(error), install=error.hint)
        return Availability(True, f"onnxruntime {runtime.__version__}")

    def check(self, network: Decoder | Encoder, settings: BaseModel, longest: int) -> None:
        """See ChecksNetworks.check."""
        _graph(self._checked(settings), network.kind)
        refuse_activation(network.activation)

    def export(self, network: Decoder | Encoder, folder: Path, settings: BaseModel) -> Artifact:
        """See Exporter.export and `write_artifact`.

        Raises:
            RecipeError: the requested graph is for the other kind of network.
        """
        checked = self._checked(settings)
        graph = _graph(checked, network.kind)
        return write_artifact(
            self.name, network, folder, graph=graph, dtype=checked.dtype, oldest=OLDEST_RUNTIME
        )

    def _checked(self, settings: BaseModel) -> OnnxSettings:
        if not isinstance(settings, OnnxSettings):
            raise RecipeError(
                f"`{type(settings).__name__}` are not settings of the target `{self.name}`",
                hint="give the settings class of the target that exports",
            )
        return settings

    def open(
        self, artifact: Artifact, *, threads: int, capacity: int | None = None
    ) -> CheckedRunner | OnnxEncoderRunner:
        """See Exporter.open and `open_artifact`."""
        return open_artifact(artifact, threads=threads, capacity=capacity)


def _graph(settings: OnnxSettings, network: Network) -> Graph:
    fastest, other = GRAPHS[network]
    graph = settings.graph or fastest
    if graph not in (fastest, other):
        (owner,) = (name for name, graphs in GRAPHS.items() if graph in graphs)
        raise RecipeError(
            f"`targets.onnx.graph`: `{graph}` is a graph for {owner}s",
            hint=f"use `{fastest}` or `{other}`, or omit it",
        )
    return graph
