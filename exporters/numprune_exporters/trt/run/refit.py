"""Weights for an engine that was stripped of them, from the graph it was built from."""

from __future__ import annotations

from pathlib import Path

from numprune_export.core.errors import InputError
from numprune_exporters.trt.messages import reason
from numprune_exporters.trt.run.ports import Engine
from numprune_exporters.trt.toolkit import Toolkit


def put_weights(toolkit: Toolkit, engine: Engine, graph: Path) -> None:
    """Read every weight from the graph's own files.

    Raises:
        InputError: the graph does not hold all of the engine's weights.
    """
    with toolkit.listening() as heard:
        refitter = toolkit.module.Refitter(engine, toolkit.logger)
        reader = toolkit.module.OnnxParserRefitter(refitter, toolkit.logger)
        complete = reader.refit_from_file(str(graph)) and refitter.refit_cuda_engine()
    if not complete:
        raise InputError(
            f"`{graph}` does not hold the weights that the engine was stripped of: {reason(heard)}",
            hint="export the model again, or with `stripped: false`",
        )
