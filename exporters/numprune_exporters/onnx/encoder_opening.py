"""Opening an encoder's `onnx` artifact: needs numpy and ONNX Runtime, not torch, pydantic or onnx."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numprune_export.core.errors import InputError
from numprune_export.export.artifact import Artifact
from numprune_exporters.onnx.open import OLDEST_RUNTIME, require_runtime
from numprune_exporters.onnx.session import open_session

if TYPE_CHECKING:
    from numprune_exporters.onnx.encoder_runner import OnnxEncoderRunner


def open_encoder(artifact: Artifact, *, threads: int) -> OnnxEncoderRunner:
    """See EncoderTarget.open_encoder.

    Raises:
        InputError: a file is missing or altered, or the artifact is not an encoder's.
        MissingExtraError: onnxruntime is not installed, or too old for this graph.
    """
    if artifact.facts.get("network") != "encoder":
        raise InputError(
            f"`{artifact.folder}` holds no encoder", hint="open it with `open`, as a decoder"
        )
    needed = str(artifact.facts.get("needs_onnxruntime", OLDEST_RUNTIME))
    require_runtime(needed, package="onnxruntime")
    # Here and not above: onnxruntime is optional until something runs.
    from numprune_exporters.onnx.encoder_runner import OnnxEncoderRunner

    return OnnxEncoderRunner(open_session(artifact, threads=threads))
