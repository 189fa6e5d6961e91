"""What a row of timings says: percentiles, and a ratio that knows how sure it is."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ratio:
    """Dense over pruned, with a 95 % interval."""

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


MINIMUM_SESSIONS = 3
"""Of fewer, an interval between sessions says nothing."""
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
"""Student's two-sided 95 % quantiles of 1, 2, ... degrees of freedom; beyond, the last is used."""


def ratio_over_sessions(
    dense: NDArray[np.float64], pruned: NDArray[np.float64], *, sessions: int
) -> Ratio:
    """Speed-up of pruned over dense from paired rounds (rounds,), session after session.

    Each session gives one number, the median over its rounds of the logarithm of the round's ratio:
    what a round's two timings share cancels. The value is their mean, the interval Student's, over
    sessions: rounds of one session share where the weights lie, and are not independent.
    """
    assert dense.shape == pruned.shape, (dense.shape, pruned.shape)
    assert sessions >= MINIMUM_SESSIONS, sessions
    logs = np.log(dense / pruned).reshape(sessions, -1)
    medians = np.median(logs, axis=1)
    half = _T95[min(sessions - 1, len(_T95)) - 1] * float(medians.std(ddof=1)) / math.sqrt(sessions)
    middle = float(medians.mean())
    return Ratio(math.exp(middle), math.exp(middle - half), math.exp(middle + half))
