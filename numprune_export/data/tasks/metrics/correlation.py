"""Pearson's and Spearman's correlation of predicted numbers, with resampling."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from numprune_export.core.optional import require
from numprune_export.data.tasks.evaluation import Measure


def measures(gold: NDArray[np.float64], predicted: NDArray[np.float64]) -> dict[str, Measure]:
    """Correlations of predicted numbers, (n,), with gold numbers, (n,), which must not be all
    equal.

    For constant predictions the correlation is defined as 0. Values come from SciPy.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    stats = require("scipy.stats", extra="tasks")
    constant = bool(np.ptp(predicted) == 0)
    notes = {"constant_predictions": True} if constant else {}

    def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(stats.rankdata(values, axis=-1))

    return {
        "pearson": Measure(
            0.0 if constant else float(stats.pearsonr(gold, predicted).statistic),
            "correlation", len(gold), lambda rows: pearson_of(gold[rows], predicted[rows]), notes,
        ),
        "spearman": Measure(
            0.0 if constant else float(stats.spearmanr(gold, predicted).statistic),
            "correlation", len(gold),
            lambda rows: pearson_of(ranks(gold[rows]), ranks(predicted[rows])), notes,
        ),
    }  # fmt: skip


def pearson_of(x: Float[np.ndarray, "r n"], y: Float[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
    """The correlation of each row of x with the same row of y; 0 where a row is constant."""
    x = x - x.mean(1, keepdims=True)
    y = y - y.mean(1, keepdims=True)
    spread = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.asarray((x * y).sum(1) / np.where(spread > 0, spread, np.inf))
