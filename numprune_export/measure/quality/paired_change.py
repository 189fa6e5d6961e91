"""Score changes against the dense model, with paired confidence intervals.

Both models are scored on the same bootstrap resamples of the examples (Efron 1979), so that the
difficulty of an example cancels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from numprune_export.core.metric import Metric, Metrics
from numprune_export.data.tasks.metrics.bootstrap import bounds

FILE = "resamples.safetensors"
NATS = "nats.safetensors"


@dataclass(frozen=True)
class Scores:
    """Scores of a model on the evaluation data."""

    metrics: Metrics
    """By score; the primary score is first."""
    resamples: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """By score, its values on resamples of the examples, (resamples,), which are the same for every
    model. Empty if the data is not divided into examples."""
    nats: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """By text source, mean negative log-likelihood per token of each window, (windows,). Empty if
    there are not several sources."""


def changes(after: Scores, dense: Scores) -> Metrics:
    """By score, the difference from the dense model, with a paired 95 % interval over examples."""
    return {
        score: _change(after.metrics[score], dense.metrics[score], after.resamples[score] - before)
        for score, before in dense.resamples.items()
        if score in after.resamples
    }


def _change(after: Metric, dense: Metric, differences: NDArray[np.float64]) -> Metric:
    value = after.value - dense.value
    return Metric(value, after.unit, after.samples, *bounds(differences), after.conditions)


def write_paired(folder: Path, scores: Scores) -> None:
    """Write what the scores of other models are paired with, if there is any."""
    for name, values in ((FILE, scores.resamples), (NATS, scores.nats)):
        if values:
            save_file(dict(values), folder / name)


def read_resamples(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Resamples by score; empty if there are none, or if an older version wrote the folder."""
    return _read(folder / FILE)


def read_nats(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Nats by text source; empty if there are not several sources."""
    return _read(folder / NATS)


def _read(path: Path) -> dict[str, NDArray[np.float64]]:
    values: dict[str, NDArray[np.float64]] = load_file(path) if path.is_file() else {}
    return values
