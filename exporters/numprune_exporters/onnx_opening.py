"""Opening an `onnx` artifact: needs numpy and ONNX Runtime, and neither torch, pydantic nor onnx.

Apart from the exporter, because a server opens artifacts where nothing else is installed.
"""

from __future__ import annotations

from numprune_export.artifact import Artifact
from numprune_export.errors import InputError, MissingExtraError
from numprune_export.optional import require
from numprune_exporters.checked_runner import CheckedRunner, Steps
from numprune_exporters.onnx_session import Session, open_session

OLDEST_RUNTIME = "1.22"


def open_artifact(artifact: Artifact, *, threads: int, capacity: int) -> CheckedRunner:
    """See Exporter.open.

    Raises:
        InputError: a file is missing or altered, or the model has fewer positions than capacity.
        MissingExtraError: onnxruntime is not installed, or too old for this graph.
    """
    _require_runtime(str(artifact.facts.get("needs_onnxruntime", OLDEST_RUNTIME)))
    session = open_session(artifact, threads=threads)
    facts = session.get_modelmeta().custom_metadata_map
    positions = int(facts["max_positions"])
    if not 1 <= capacity <= positions:
        raise InputError(
            f"capacity `{capacity}` is outside the model's 1 to `{positions}` positions",
            hint="ask for shorter sequences",
        )
    return CheckedRunner(
        _steps(session, facts["graph"], capacity),
        vocabulary=int(session.get_outputs()[0].shape[2]),
        capacity=capacity,
    )


def _require_runtime(needed: str) -> None:
    found = str(require("onnxruntime", extra="cpu").__version__)
    if _numbers(found) < _numbers(needed):
        raise MissingExtraError(
            f"this graph needs onnxruntime {needed} or newer, {found} is installed",
            hint=f"pip install 'onnxruntime>={needed}', or export with `graph: standard`",
        )


def _numbers(version_text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version_text.split(".")[:2])


def _steps(session: Session, graph: str, capacity: int) -> Steps:
    # Here and not above: onnxruntime is optional until something runs.
    from numprune_exporters.gqa_steps import GqaSteps
    from numprune_exporters.standard_steps import StandardSteps

    if graph == "gqa":
        return GqaSteps(session, capacity=capacity)
    return StandardSteps(session)
