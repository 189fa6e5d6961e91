"""Opening an `onnx` artifact: needs numpy and ONNX Runtime, and neither torch, pydantic nor onnx.

Apart from the exporter, because a server opens artifacts where nothing else is installed.
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
"""Which extra installs which of the two packages, that hold one and the same module."""


def open_artifact(
    artifact: Artifact, *, threads: int, capacity: int | None = None
) -> CheckedRunner | OnnxEncoderRunner:
    """See Exporter.open.

    Raises:
        InputError: a file is missing or altered, or a decoder has no capacity or fewer positions.
        MissingExtraError: onnxruntime is not installed, or too old for this graph.
    """
    needed = str(artifact.facts.get("needs_onnxruntime", OLDEST_RUNTIME))
    require_runtime(needed, package="onnxruntime")
    if artifact.network == "encoder":
        # Here and not above: onnxruntime is optional until something runs.
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
        MissingExtraError: it is, or there is none.
    """
    found = str(require("onnxruntime", extra=EXTRAS[package]).__version__)
    if _numbers(found) < _numbers(needed):
        raise MissingExtraError(
            f"this graph needs onnxruntime {needed} or newer, {found} is installed",
            hint=f"pip install '{package}>={needed}', or export with `graph: standard`",
        )


def steps(session: Session, *, capacity: int, device: Device = "cpu") -> GqaSteps | StandardSteps:
    """What drives the session's graph, whose flavour and positions stand in the model.

    Raises:
        InputError: the model has fewer positions than capacity.
    """
    # Here and not above: onnxruntime is optional until something runs.
    from numprune_exporters.onnx.gqa_steps import GqaSteps
    from numprune_exporters.onnx.standard_steps import StandardSteps

    positions = number(session, "max_positions")
    if not 1 <= capacity <= positions:
        raise InputError(
            f"capacity `{capacity}` is outside the model's 1 to `{positions}` positions",
            hint="ask for shorter sequences",
        )
    if fact(session, "graph") == "gqa":
        return GqaSteps(session, capacity=capacity, device=device)
    return StandardSteps(session, device=device)


def vocabulary(session: Session) -> int:
    """How many logits the graph gives per token."""
    return logit_count(session)


def _numbers(version_text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version_text.split(".")[:2])
