"""Run the graph of an engine with ONNX Runtime on the CPU."""

from __future__ import annotations

from numprune_export.core.errors import MissingExtraError, UnsupportedModelError
from numprune_export.core.optional import require
from numprune_export.export.artifact import Artifact
from numprune_exporters.onnx.session import logit_count, open_session
from numprune_exporters.onnx.slot_session import SlotOnnx
from numprune_exporters.runners.decoder import CheckedRunner
from numprune_exporters.trt.profiles import from_facts
from numprune_exporters.trt.run.steps import EngineSteps

GRAPH = "graph/model.onnx"


def cannot_run(artifact: Artifact) -> str | None:
    """See GraphBacked.graph_cannot_run."""
    try:
        require("onnxruntime", extra="cpu")
    except MissingExtraError as error:
        return str(error)
    return _no_graph_to_run(artifact)


def open_graph(artifact: Artifact, *, threads: int, capacity: int) -> CheckedRunner:
    """See GraphBacked.open_graph.

    Raises:
        UnsupportedModelError: the graph was not kept, or ONNX Runtime's CPU cannot run its dtype.
        InputError: a file is missing or altered, or capacity is outside the engine's profile.
        MissingExtraError: onnxruntime is not installed.
    """
    reason = _no_graph_to_run(artifact)
    if reason is not None:
        raise UnsupportedModelError(
            reason, hint="export with `keep_graph: true` and dtype: float16 or float32"
        )
    profiles = from_facts(artifact.facts)
    profiles.require_capacity(capacity)
    session = open_session(artifact, threads=threads, graph=GRAPH)
    steps = EngineSteps(SlotOnnx(session, capacity=capacity), profiles, slots=capacity)
    vocabulary = logit_count(session)
    return CheckedRunner(steps, vocabulary=vocabulary, capacity=capacity)


def _no_graph_to_run(artifact: Artifact) -> str | None:
    if GRAPH not in artifact.files:
        return "the graph was not kept: it was exported with `keep_graph: false`"
    if artifact.facts["dtype"] == "bfloat16":
        return "ONNX Runtime's CPU has no kernels for a graph in `bfloat16`"
    return None
