"""The `onnx-cuda` target: the graphs of the `onnx` target, run by ONNX Runtime on an NVIDIA GPU."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from numprune_export.core.errors import RecipeError, UnsupportedModelError
from numprune_export.core.optional import require
from numprune_export.export.artifact import Artifact, Network
from numprune_export.export.decoder import Decoder
from numprune_export.export.encoder import Encoder
from numprune_export.export.exporter import Availability, require_network
from numprune_export.export.runner import Device
from numprune_exporters.cuda.device import why_none
from numprune_exporters.graphs.activations import refuse_activation
from numprune_exporters.onnx.write import DecoderGraph, write_artifact
from numprune_exporters.onnx_cuda.open import OLDEST_CUDA_RUNTIME, OnnxCudaRunner, open_artifact
from numprune_exporters.onnx_cuda.session import INSTALL, missing_package

WIDEST_HEAD = 256
"""Widest head that GroupQueryAttention supports on CUDA."""


class OnnxCudaSettings(BaseModel):
    """Recipe settings under `targets.onnx-cuda`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """Dtype of weights, activations and KV cache. Norms, softmax and logits are always fp32."""
    graph: DecoderGraph | None = None
    """`gqa`: fused attention, in half precision only. `standard`: basic operators. null: `gqa`, and
    `standard` in float32."""


class OnnxCudaExporter:
    """Writes `model.onnx` with its weights in `model.onnx.data`, and opens them on the GPU."""

    name: ClassVar[str] = "onnx-cuda"
    device: ClassVar[Device] = "cuda"
    summary: ClassVar[str] = "ONNX Runtime on an NVIDIA GPU; KV cache in place"
    settings: ClassVar[type[BaseModel]] = OnnxCudaSettings
    networks: ClassVar[frozenset[Network]] = frozenset({"decoder"})

    def availability(self) -> Availability:
        """See Exporter.availability. Export needs neither a GPU nor ONNX Runtime."""
        missing = missing_package()
        if missing is not None:
            return Availability(True, missing, install=INSTALL, cannot_run=missing)
        runtime = require("onnxruntime", extra="gpu")
        return Availability(True, f"onnxruntime-gpu {runtime.__version__}", cannot_run=why_none())

    def check(self, network: Decoder | Encoder, settings: BaseModel, longest: int) -> None:
        """See ChecksNetworks.check."""
        require_network(self, network.kind)
        assert isinstance(network, Decoder)
        _graph_for(network, _checked(settings))
        refuse_activation(network.activation)

    def export(self, network: Decoder | Encoder, folder: Path, settings: BaseModel) -> Artifact:
        """See Exporter.export and `write_artifact`.

        Raises:
            RecipeError: CUDA has no kernel for this graph in this dtype.
            UnsupportedModelError: the model is an encoder, or its heads are too wide.
        """
        require_network(self, network.kind)
        assert isinstance(network, Decoder)
        checked = _checked(settings)
        graph = _graph_for(network, checked)
        return write_artifact(
            self.name,
            network,
            folder,
            graph=graph,
            dtype=checked.dtype,
            oldest=OLDEST_CUDA_RUNTIME,
        )

    def open(
        self, artifact: Artifact, *, threads: int, capacity: int | None = None
    ) -> OnnxCudaRunner:
        """See Exporter.open."""
        return open_artifact(artifact, threads=threads, capacity=capacity)


def _checked(settings: BaseModel) -> OnnxCudaSettings:
    if not isinstance(settings, OnnxCudaSettings):
        raise RecipeError(
            f"`{type(settings).__name__}` are not settings of the target `onnx-cuda`",
            hint="give the settings class of the target that exports",
        )
    return settings


def _graph_for(decoder: Decoder, settings: OnnxCudaSettings) -> DecoderGraph:
    graph = _graph(settings)
    if graph == "gqa" and decoder.head_dim > WIDEST_HEAD:
        raise UnsupportedModelError(
            f"heads are `{decoder.head_dim}` wide; GroupQueryAttention takes at most {WIDEST_HEAD} "
            "on CUDA",
            hint="set `targets.onnx-cuda.graph: standard`",
        )
    return graph


def _graph(settings: OnnxCudaSettings) -> DecoderGraph:
    if settings.dtype == "float32" and settings.graph == "gqa":
        raise RecipeError(
            "`targets.onnx-cuda.graph`: `gqa` has no kernel in float32 on CUDA",
            hint="use `dtype: float16` or `bfloat16`, or `graph: standard`",
        )
    return settings.graph or ("standard" if settings.dtype == "float32" else "gqa")
