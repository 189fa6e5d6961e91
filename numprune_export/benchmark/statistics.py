"""What a row of timings says: percentiles, and a ratio that knows how sure it is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ratio:
    """Median over median, with a 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 1: one side is really the faster one."""
        return not self.low <= 1 <= self.high


def percentile(times: NDArray[np.float64], rank: float) -> float:
    """The value below which `rank` percent of the times lie, linear between neighbours.

    >>> percentile(np.array([1.0, 2.0, 3.0, 4.0]), 50)
    2.5
    """
    return float(np.percentile(times, rank))


def ratio_of_medians(
    dense: NDArray[np.float64],
    pruned: NDArray[np.float64],
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> Ratio:
    """Speed-up of pruned over dense, above 1 if pruned is faster, from paired rounds (rounds,).

    The interval is a percentile bootstrap (Efron 1979) that draws whole rounds, so noise that a
    round's two timings share cancels in it as it does in the ratio.
    """
    assert dense.shape == pruned.shape, (dense.shape, pruned.shape)
    rounds = np.random.default_rng(seed).integers(0, len(dense), (resamples, len(dense)))
    ratios = np.median(dense[rounds], axis=1) / np.median(pruned[rounds], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Ratio(float(np.median(dense) / np.median(pruned)), float(low), float(high))
