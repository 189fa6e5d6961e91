"""Confidence intervals of scores: percentile bootstrap over examples, paired for a difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Resampled = Callable[[Rows], NDArray[np.float64]]
"""(resamples, n) indices of examples to the score of each resample, (resamples,)."""

RESAMPLES = 1000
_AT_ONCE = 1 << 20  # drawn examples in memory at a time


def interval(score: Resampled, examples: int, *, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval (Efron 1979) of a score over `examples` examples."""
    return bounds(resampled(score, examples, seed=seed))


def resampled(score: Resampled, examples: int, *, seed: int = 0) -> NDArray[np.float64]:
    """A score on `RESAMPLES` resamples of `examples` examples, (resamples,); equal resamples for
    equal seeds."""
    return np.concatenate([score(rows) for rows in _draws(examples, seed)])


def change_interval(
    before: Resampled, after: Resampled, examples: int, *, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of after − before, both scored on the same resamples.

    The difficulty of examples cancels, so smaller differences become significant.
    """
    drawn = (after(rows) - before(rows) for rows in _draws(examples, seed))
    return bounds(np.concatenate(list(drawn)))


def _draws(examples: int, seed: int) -> Iterator[Rows]:
    generator = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // examples)
    for start in range(0, RESAMPLES, step):
        yield generator.integers(0, examples, (min(step, RESAMPLES - start), examples))


def bounds(scores: NDArray[np.float64]) -> tuple[float, float]:
    """95 % percentile interval of resampled values, (resamples,)."""
    low, high = np.percentile(scores, [2.5, 97.5])
    return float(low), float(high)
