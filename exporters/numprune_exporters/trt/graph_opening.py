"""The graph behind an engine, run by ONNX Runtime on the CPU."""

from __future__ import annotations

from numprune_export.artifact import Artifact
from numprune_export.errors import UnsupportedModelError
from numprune_exporters.checked_runner import CheckedRunner
from numprune_exporters.onnx_session import open_session
from numprune_exporters.slot_onnx import SlotOnnx
from numprune_exporters.slot_steps import SlotSteps
from numprune_exporters.trt import profiles

GRAPH = "graph/model.onnx"


def open_graph(artifact: Artifact, *, threads: int, capacity: int) -> CheckedRunner:
    """See GraphBacked.open_graph.

    Raises:
        UnsupportedModelError: the graph was not kept, or ONNX Runtime's CPU cannot run its dtype.
        InputError: a file is missing or altered, or capacity is outside the engine's profile.
        MissingExtraError: onnxruntime is not installed.
    """
    if GRAPH not in artifact.files:
        raise UnsupportedModelError(
            f"`{artifact.folder}` holds no graph: it was exported with `keep_graph: false`",
            hint="export with `keep_graph: true`",
        )
    if artifact.facts["dtype"] == "bfloat16":
        raise UnsupportedModelError(
            "ONNX Runtime's CPU has no `bfloat16` kernels for this graph",
            hint="check the engine itself on a GPU, or export with dtype: float16 or float32",
        )
    profiles.from_facts(artifact.facts).require_capacity(capacity)
    session = open_session(artifact, threads=threads, graph=GRAPH)
    steps = SlotSteps(SlotOnnx(session, capacity=capacity), capacity=capacity)
    vocabulary = int(session.get_outputs()[0].shape[2])
    return CheckedRunner(steps, vocabulary=vocabulary, capacity=capacity)
