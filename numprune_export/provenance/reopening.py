"""Check that verified files are usable: load the model, open the artifact."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from numprune_export.core.errors import IntegrityError
from numprune_export.export import targets
from numprune_export.export.artifact import Artifact
from numprune_export.export.exporter import Exporter, GraphBacked
from numprune_export.export.runner import EncoderRunner
from numprune_export.models.checkpoint.load import load
from numprune_export.models.checkpoint.tokenizer_files import read_tokenizer
from numprune_export.report.tables.format import count

_TOKENS = 4


def reload_model(folder: Path) -> str:
    """Load a pruned model folder with the public loader, without running code from it.

    Returns:
        A phrase with the number of parameters.

    Raises:
        InputError: the folder does not load.
    """
    model = load(folder)
    read_tokenizer(folder)
    return f"loaded, {count(model.num_parameters())} parameters"


def reopen(folder: Path) -> str:
    """Run four tokens through an artifact, or through the graph behind an engine.

    Returns:
        A phrase: the runtime that ran, or the reason why nothing could run here.

    Raises:
        NumpruneError: the artifact should run here but fails.
    """
    artifact = Artifact.load(folder)
    exporter = targets.find(artifact.target)
    here = exporter.availability()
    why = here.cannot_run if here.ready else here.detail
    if why is None:
        _run(exporter, artifact)
        return f"ran in {here.detail}"
    if isinstance(exporter, GraphBacked) and exporter.graph_cannot_run(artifact) is None:
        with exporter.open_graph(artifact, threads=1, capacity=_TOKENS) as runner:
            _require_finite(runner.prefill(np.zeros((1, _TOKENS), np.int64)), folder)
        return f"hashed only ({why}); the graph behind it ran in ONNX Runtime"
    return f"hashed only: {why}"


def _run(exporter: Exporter, artifact: Artifact) -> None:
    tokens = np.zeros((1, _TOKENS), np.int64)
    with exporter.open(artifact, threads=1, capacity=_TOKENS) as runner:
        answer = runner.forward if isinstance(runner, EncoderRunner) else runner.prefill
        _require_finite(answer(tokens), artifact.folder)


def _require_finite(logits: np.ndarray, folder: Path) -> None:
    if not np.isfinite(logits).all():
        raise IntegrityError(f"`{folder}` returns NaN or infinity", hint="export the model again")
