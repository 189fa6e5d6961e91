"""Run an encoder over labelled examples, rows of like length together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numprune_export.core.errors import NumericalError
from numprune_export.data.labelled.encoded import Batch, Encoded
from numprune_export.export.runner import EncoderRunner, Logits


def _silent(_rows: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class Run:
    """How an evaluation is run; what else its figures hold for."""

    batch: int | None = None
    """Rows of a batch; None: as the data's settings say."""
    conditions: Mapping[str, Any] = field(default_factory=dict)
    progress: Callable[[int], None] = _silent
    """Called with the number of rows just done."""


def answered(runner: EncoderRunner, encoded: Encoded, run: Run) -> Iterator[tuple[Batch, Logits]]:
    """Batches with their logits.

    Raises:
        NumericalError: a logit of a real token is NaN or infinite.
    """
    for batch in encoded.batches(run.batch, by_length=True):
        windows = batch.windows
        logits = runner.forward(windows.tokens, windows.lengths, windows.types)
        real = logits
        if logits.ndim == 3:
            real = logits[np.arange(logits.shape[1]) < windows.lengths[:, None]]
        if not np.isfinite(real).all():
            raise NumericalError(
                "the model gives NaN or infinite logits for labelled examples",
                hint="check the weights, or prune less",
            )
        yield batch, logits
        run.progress(len(batch.rows))


def conditions(encoded: Encoded, run: Run) -> dict[str, Any]:
    """What every score of an evaluation depends on."""
    lengths = encoded.windows.lengths
    return {
        "batch": run.batch or encoded.data.batch,
        "max_length": encoded.data.max_length,
        "mean_length": round(float(lengths.mean()), 2),
        "cut": encoded.cut,
        **run.conditions,
    }
