"""Accuracy, F1 and Matthews' correlation coefficient of classes, with resampling."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from numprune_export.core.optional import require
from numprune_export.data.tasks.evaluation import Measure
from numprune_export.data.tasks.metrics.bootstrap import Rows


def measures(
    gold: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> dict[str, Measure]:
    """Scores of predicted classes, (n,), against gold classes, (n,).

    F1 is that of class 1 for two classes, else the unweighted mean over the classes that occur.
    Values come from scikit-learn; resampled values are computed here.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    sklearn = require("sklearn.metrics", extra="tasks")
    average = "binary" if classes == 2 else "macro"
    cells = gold * classes + predicted
    with warnings.catch_warnings():
        # For constant predictions the coefficient is 0; scikit-learn warns about it.
        warnings.simplefilter("ignore")
        f1 = float(sklearn.f1_score(gold, predicted, average=average, zero_division=0))
        matthews = float(sklearn.matthews_corrcoef(gold, predicted))
    return {
        "accuracy": Measure.mean_of((gold == predicted).astype(np.float64), "fraction"),
        "f1": Measure(
            f1, "fraction", len(gold),
            lambda rows: f1_of(counted(cells, rows, classes)), {"average": average},
        ),
        "matthews": Measure(
            matthews, "correlation", len(gold),
            lambda rows: matthews_of(counted(cells, rows, classes)),
        ),
    }  # fmt: skip


def counted(cells: NDArray[np.int64], rows: Rows, classes: int) -> Int[np.ndarray, "r c c"]:
    """Confusion matrices of (r, n) drawn examples, gold class by predicted class."""
    size = classes * classes
    placed = cells[rows] + size * np.arange(len(rows))[:, None]
    counts = np.bincount(placed.ravel(), minlength=size * len(rows))
    return counts.reshape(len(rows), classes, classes)


def f1_of(confusion: Int[np.ndarray, "r c c"]) -> Float[np.ndarray, " r"]:
    """F1 of class 1 for two classes, else the mean over the classes that occur or are predicted."""
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    both = confusion.sum(1) + confusion.sum(2)
    scores = 2 * hits / np.maximum(both, 1)
    if confusion.shape[1] == 2:
        return np.asarray(scores[:, 1], dtype=np.float64)
    return np.asarray(scores.sum(1) / (both > 0).sum(1), dtype=np.float64)


def matthews_of(confusion: Int[np.ndarray, "r c c"]) -> Float[np.ndarray, " r"]:
    """Matthews' correlation coefficient for any number of classes (Gorodkin 2004); 0 where it is
    undefined."""
    confusion = confusion.astype(np.float64)
    gold, predicted = confusion.sum(2), confusion.sum(1)
    total, hits = gold.sum(1), np.trace(confusion, axis1=1, axis2=2)
    covariance = hits * total - (gold * predicted).sum(1)
    spread = (total**2 - (gold**2).sum(1)) * (total**2 - (predicted**2).sum(1))
    return np.asarray(covariance / np.sqrt(np.where(spread > 0, spread, np.inf)))
