"""Scores of the dense model and of another on the same examples: how sure their difference is.

Both are scored on the same bootstrap resamples of the examples (Efron 1979), so that what makes an example
hard for both models cancels.
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


@dataclass(frozen=True)
class Scores:
    """How good a model is on the evaluation texts."""

    metrics: Metrics
    """By score, the one that counts first."""
    resamples: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """By score, its values on resamples of the examples, (resamples,): the same resamples for every
    model. Empty where texts are not examples."""


def changes(after: Scores, dense: Scores) -> Metrics:
    """By score, its value minus that of the dense model, with a paired 95 % interval over examples."""
    return {
        score: _change(after.metrics[score], dense.metrics[score], after.resamples[score] - before)
        for score, before in dense.resamples.items()
        if score in after.resamples
    }


def _change(after: Metric, dense: Metric, drawn: NDArray[np.float64]) -> Metric:
    value = after.value - dense.value
    return Metric(value, after.unit, after.samples, *bounds(drawn), after.conditions)


def write_resamples(folder: Path, scores: Scores) -> None:
    """Nothing where there are none."""
    if scores.resamples:
        save_file(dict(scores.resamples), folder / FILE)


def read_resamples(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Empty where there are none, or an earlier version wrote the folder."""
    path = folder / FILE
    found: dict[str, NDArray[np.float64]] = load_file(path) if path.is_file() else {}
    return found
