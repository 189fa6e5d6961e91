"""Which targets can be served, and what opens their artifacts inside the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from numprune_export.artifact import Artifact
from numprune_export.errors import UnsupportedModelError


@dataclass(frozen=True)
class ServedTarget:
    """How an artifact is opened where only its runtime is installed."""

    opener: str
    """`module:function`, with the arguments of `Exporter.open`. The module and all of this project
    that it imports is copied into the repository, and must need neither torch nor pydantic."""
    requirements: tuple[str, ...]
    """Distributions that the runner imports, versions pinned where they must be."""
    kind: Literal["KIND_CPU", "KIND_GPU"]
    backend: Literal["onnxruntime", "tensorrt"]
    """Triton's own backend for the bare graph."""
    default_file: str
    """What that backend calls the graph."""
    note: str
    """For the README: what the runtime needs; artifact facts in braces."""
    graph_note: str
    """For the bare graph's README: what its backend needs."""


TARGETS: Mapping[str, ServedTarget] = {
    "onnx": ServedTarget(
        opener="numprune_exporters.onnx_opening:open_artifact",
        requirements=("onnxruntime>={needs_onnxruntime}",),
        kind="KIND_CPU",
        backend="onnxruntime",
        default_file="model.onnx",
        note="The model runs in ONNX Runtime {needs_onnxruntime} or newer, on the CPU.",
        graph_note="Needs a server whose ONNX Runtime is {needs_onnxruntime} or newer (opset {opset}).",
    ),
}


def served(artifact: Artifact) -> ServedTarget:
    """How this artifact is served.

    Raises:
        UnsupportedModelError: its target is not one that Triton can serve.
    """
    if artifact.target not in TARGETS:
        raise UnsupportedModelError(
            f"Triton cannot serve an artifact of target `{artifact.target}`",
            hint=f"package one of: {', '.join(sorted(TARGETS))}",
        )
    return TARGETS[artifact.target]
