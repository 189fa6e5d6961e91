"""Whether files that are what was written can also be used: load the model, open the artifact."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from numprune_export.core.errors import IntegrityError
from numprune_export.export import targets
from numprune_export.export.artifact import Artifact, Exporter, GraphBacked
from numprune_export.export.encoder import EncoderTarget
from numprune_export.report.tables.format import count

_TOKENS = 4


def reload_model(folder: Path) -> str:
    """Load a pruned folder by the public loader; no code from it is run.

    Returns:
        What was loaded.

    Raises:
        InputError: it does not load.
    """
    from numprune_export.models.checkpoint.folder import read_tokenizer
    from numprune_export.models.checkpoint.load import load

    model = load(folder)
    read_tokenizer(folder)
    return f"loaded, {count(model.num_parameters())} parameters"


def reopen(folder: Path) -> str:
    """Run a few tokens through an artifact, or through the graph behind an engine.

    Returns:
        What ran, or why nothing could run here.

    Raises:
        NumpruneError: it should run here and does not.
    """
    artifact = Artifact.load(folder)
    exporter = targets.find(artifact.target)
    here = exporter.availability()
    why = here.cannot_run if here.ready else here.detail
    if why is None:
        _run(exporter, artifact)
        return f"ran by {here.detail}"
    if isinstance(exporter, GraphBacked) and exporter.graph_cannot_run(artifact) is None:
        with exporter.open_graph(artifact, threads=1, capacity=_TOKENS) as runner:
            _require_finite(runner.prefill(np.zeros((1, _TOKENS), np.int64)), folder)
        return f"hashed only ({why}); the graph behind it ran by ONNX Runtime"
    return f"hashed only: {why}"


def _run(exporter: Exporter, artifact: Artifact) -> None:
    tokens = np.zeros((1, _TOKENS), np.int64)
    if artifact.facts.get("network") == "encoder":
        assert isinstance(exporter, EncoderTarget), exporter.name
        with exporter.open_encoder(artifact, threads=1) as encoder:
            _require_finite(encoder.forward(tokens), artifact.folder)
        return
    with exporter.open(artifact, threads=1, capacity=_TOKENS) as decoder:
        _require_finite(decoder.prefill(tokens), artifact.folder)


def _require_finite(logits: np.ndarray, folder: Path) -> None:
    if not np.isfinite(logits).all():
        raise IntegrityError(f"`{folder}` gives NaN or infinity", hint="export the model again")
