"""Open an `onnx` artifact. Needs numpy and ONNX Runtime; no torch, pydantic or onnx.

Separate from the exporter, because a server opens artifacts with nothing else installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from numprune_export.core.errors import InputError, MissingExtraError
from numprune_export.core.optional import require
from numprune_export.export.artifact import Artifact
from numprune_export.export.runner import Device
from numprune_exporters.onnx.session import Session, fact, logit_count, number, open_session
from numprune_exporters.runners.decoder import CheckedRunner, require_capacity

if TYPE_CHECKING:
    from numprune_exporters.onnx.encoder_runner import OnnxEncoderRunner
    from numprune_exporters.onnx.gqa_steps import GqaSteps
    from numprune_exporters.onnx.standard_steps import StandardSteps

OLDEST_RUNTIME = "1.22"
EXTRAS = {"onnxruntime": "cpu", "onnxruntime-gpu": "gpu"}
"""Package to the extra that installs it; both packages provide the module `onnxruntime`."""


def open_artifact(
    artifact: Artifact, *, threads: int, capacity: int | None = None
) -> CheckedRunner | OnnxEncoderRunner:
    """See Exporter.open.

    Raises:
        InputError: a file is missing or altered, or a decoder has no capacity or too few positions.
        MissingExtraError: onnxruntime is not installed, or too old for this graph.
    """
    needed = str(artifact.facts.get("needs_onnxruntime", OLDEST_RUNTIME))
    require_runtime(needed, package="onnxruntime")
    if artifact.network == "encoder":
        # Imported here: onnxruntime is optional until a graph runs.
        from numprune_exporters.onnx.encoder_runner import OnnxEncoderRunner

        return OnnxEncoderRunner(open_session(artifact, threads=threads))
    longest = require_capacity(artifact, capacity)
    session = open_session(artifact, threads=threads)
    return CheckedRunner(
        steps(session, capacity=longest), vocabulary=vocabulary(session), capacity=longest
    )


def require_runtime(needed: str, *, package: str) -> None:
    """Refuse an ONNX Runtime that is too old.

    Raises:
        MissingExtraError: it is too old or not installed.
    """
    installed = str(require("onnxruntime", extra=EXTRAS[package]).__version__)
    if _numbers(installed) < _numbers(needed):
        raise MissingExtraError(
            f"this graph needs onnxruntime {needed} or newer, {installed} is installed",
            hint=f"pip install '{package}>={needed}', or export with `graph: standard`",
        )


def steps(session: Session, *, capacity: int, device: Device = "cpu") -> GqaSteps | StandardSteps:
    """The steps for the session's graph; flavour and positions are in the model's metadata.

    Raises:
        InputError: the model has fewer positions than capacity.
    """
    # Imported here: onnxruntime is optional until a graph runs.
    from numprune_exporters.onnx.gqa_steps import GqaSteps
    from numprune_exporters.onnx.standard_steps import StandardSteps

    positions = number(session, "max_positions")
    if not 1 <= capacity <= positions:
        raise InputError(
            f"capacity `{capacity}` is outside the model's 1 to `{positions}` positions",
            hint="use shorter sequences",
        )
    if fact(session, "graph") == "gqa":
        return GqaSteps(session, capacity=capacity, device=device)
    return StandardSteps(session, device=device)


def vocabulary(session: Session) -> int:
    """Number of logits per token."""
    return logit_count(session)


def _numbers(version_text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version_text.split(".")[:2])
