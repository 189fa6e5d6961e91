"""Run an encoder on labelled examples, grouped by length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numprune_export.core.errors import NumericalError
from numprune_export.core.halving import in_parts
from numprune_export.data.corpus import Windows
from numprune_export.data.labelled.encoded import Batch, Encoded
from numprune_export.export.runner import EncoderRunner, Logits


def _silent(_rows: int) -> None:
    """Ignore progress."""


@dataclass(frozen=True)
class Run:
    """Settings of an evaluation, and further conditions of its metrics."""

    batch: int | None = None
    """Rows per batch; None: from the data's settings."""
    conditions: Mapping[str, Any] = field(default_factory=dict)
    progress: Callable[[int], None] = _silent
    """Called with the number of rows of each finished batch."""


def answered(runner: EncoderRunner, encoded: Encoded, run: Run) -> Iterator[tuple[Batch, Logits]]:
    """Run the model; batches with their logits.

    Raises:
        NumericalError: a logit of a real token is NaN or infinite.
    """
    for batch in encoded.batches(run.batch, by_length=True):
        windows = batch.windows

        def run_rows(rows: slice, windows: Windows = windows) -> Logits:
            part = windows.part(rows)
            return runner.forward(part.tokens, part.lengths, part.types)

        parts = list(in_parts(len(batch.rows), run_rows))
        real = logits = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if logits.ndim == 3:
            real = logits[np.arange(logits.shape[1]) < windows.lengths[:, None]]
        if not np.isfinite(real).all():
            raise NumericalError(
                "the model returns NaN or infinite logits for labelled examples",
                hint="check the weights, or prune less",
            )
        yield batch, logits
        run.progress(len(batch.rows))


def conditions(encoded: Encoded, run: Run) -> dict[str, Any]:
    """Conditions of every score of an evaluation, for the report."""
    lengths = encoded.windows.lengths
    return {
        "batch": run.batch or encoded.data.batch,
        "max_length": encoded.data.max_length,
        "mean_length": round(float(lengths.mean()), 2),
        "cut": encoded.cut,
        **run.conditions,
    }
