"""Load the weights of a stripped engine from its graph."""

from __future__ import annotations

from pathlib import Path

from numprune_export.core.errors import InputError
from numprune_exporters.trt.messages import reason
from numprune_exporters.trt.run.ports import Engine
from numprune_exporters.trt.toolkit import Toolkit


def put_weights(toolkit: Toolkit, engine: Engine, graph: Path) -> None:
    """Refit the engine with all weights of the graph.

    Raises:
        InputError: the graph does not contain all of the engine's weights.
    """
    with toolkit.listening() as messages:
        refitter = toolkit.module.Refitter(engine, toolkit.logger)
        reader = toolkit.module.OnnxParserRefitter(refitter, toolkit.logger)
        complete = reader.refit_from_file(str(graph)) and refitter.refit_cuda_engine()
    if not complete:
        raise InputError(
            f"`{graph}` does not contain all weights of the stripped engine: {reason(messages)}",
            hint="export the model again, or with `stripped: false`",
        )
