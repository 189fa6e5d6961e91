"""Targets that can be served, and how the server opens their artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from numprune_export.core.errors import UnsupportedModelError
from numprune_export.export.artifact import Artifact


@dataclass(frozen=True)
class ServedTarget:
    """How an artifact is opened in an environment with only its runtime installed."""

    opener: str
    """`module:function`, with the arguments of `Exporter.open`. The module and its imports from
    this project are copied into the repository and must need neither torch nor pydantic."""
    requirements: tuple[str, ...]
    """Distributions that the runner imports, with version pins; artifact facts in braces."""
    kind: Literal["KIND_CPU", "KIND_GPU"]
    backend: Literal["onnxruntime", "tensorrt"] | None
    """Triton's backend for the bare graph; None: it has none for this target."""
    default_file: str
    """File name of the graph in that backend."""
    note: str
    """Requirements of the runtime, for the README; artifact facts in braces."""
    graph_note: str
    """Requirements of the backend, for the bare graph's README."""


ENGINE_OPENER = "numprune_exporters.trt.run.open:open_engine"
CUDA = "cuda-bindings>=12.9,<14"
ENGINE_NOTE = (
    "The engine needs exactly {runtime} and the GPU it was built for."
    " **No server has run an engine of this kind yet**: the same code was run with ONNX Runtime."
)

TARGETS: Mapping[str, ServedTarget] = {
    "onnx": ServedTarget(
        opener="numprune_exporters.onnx.open:open_artifact",
        requirements=("onnxruntime>={needs_onnxruntime}",),
        kind="KIND_CPU",
        backend="onnxruntime",
        default_file="model.onnx",
        note="The model runs in ONNX Runtime {needs_onnxruntime} or newer, on the CPU.",
        graph_note="Needs a server whose ONNX Runtime is {needs_onnxruntime} or newer (opset {opset}).",
    ),
    "onnx-cuda": ServedTarget(
        opener="numprune_exporters.onnx_cuda.open:open_artifact",
        requirements=("onnxruntime-gpu>={needs_onnxruntime}", CUDA),
        kind="KIND_GPU",
        backend="onnxruntime",
        default_file="model.onnx",
        note="The model runs in ONNX Runtime {needs_onnxruntime} or newer, on the GPU."
        " **No server has run it on a GPU yet**: the same code was run on the CPU.",
        graph_note="Needs a server whose ONNX Runtime is {needs_onnxruntime} or newer (opset {opset}).",
    ),
    "trt": ServedTarget(
        opener=ENGINE_OPENER,
        requirements=("tensorrt=={toolkit_version}", CUDA),
        kind="KIND_GPU",
        backend="tensorrt",
        default_file="model.plan",
        note=f"{ENGINE_NOTE} TensorRT comes from NVIDIA's index:"
        " add `--extra-index-url https://pypi.nvidia.com` to the pip line.",
        graph_note="Needs the tritonserver image whose TensorRT is exactly {toolkit_version}"
        " (NVIDIA's support matrix lists them), and the GPU it was built for.",
    ),
    "trt-rtx": ServedTarget(
        opener=ENGINE_OPENER,
        requirements=("tensorrt-rtx-cu13=={toolkit_version}", CUDA),
        kind="KIND_GPU",
        backend=None,
        default_file="model.plan",
        note=ENGINE_NOTE,
        graph_note="",
    ),
}


def instances(target: ServedTarget, count: int) -> dict[str, Any]:
    """An instance group. On a GPU it names the first one, which the runner uses."""
    gpus = {"gpus": [0]} if target.kind == "KIND_GPU" else {}
    return {"count": count, "kind": target.kind, **gpus}


def served(artifact: Artifact) -> ServedTarget:
    """How this artifact is served.

    Raises:
        UnsupportedModelError: Triton cannot serve the artifact's target, or the artifact has no
            weights or is an encoder.
    """
    if artifact.network != "decoder":
        raise UnsupportedModelError(
            f"Triton packages generate text: `{artifact.folder}` holds an {artifact.network}",
            hint="package an artifact of a language model",
        )
    if artifact.facts.get("stripped"):
        raise UnsupportedModelError(
            f"the engine in `{artifact.folder}` has no weights",
            hint="export with `stripped: false`",
        )
    if artifact.target not in TARGETS:
        raise UnsupportedModelError(
            f"Triton cannot serve an artifact of target `{artifact.target}`",
            hint=f"package one of: {', '.join(sorted(TARGETS))}",
        )
    return TARGETS[artifact.target]
