"""Statistics of timings: percentiles, and ratios with confidence intervals."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ratio:
    """Dense time over pruned time, with a 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 1."""
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

    The interval is a percentile bootstrap (Efron 1979) that resamples whole rounds. Noise common to
    the two timings of a round cancels in it, as it does in the ratio.
    """
    assert dense.shape == pruned.shape, (dense.shape, pruned.shape)
    rounds = np.random.default_rng(seed).integers(0, len(dense), (resamples, len(dense)))
    ratios = np.median(dense[rounds], axis=1) / np.median(pruned[rounds], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Ratio(float(np.median(dense) / np.median(pruned)), float(low), float(high))


MINIMUM_SESSIONS = 3
"""Fewer sessions give no useful interval over sessions."""
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
"""Student's two-sided 95 % quantiles of 1, 2, ... degrees of freedom; the last is used for more."""


def ratio_over_sessions(
    dense: NDArray[np.float64], pruned: NDArray[np.float64], *, sessions: int
) -> Ratio:
    """Speed-up of pruned over dense from paired rounds (rounds,), session by session.

    Each session gives one number: the median over its rounds of the log ratio, in which noise
    common to the two timings of a round cancels. The value is the exponential of the sessions'
    mean, with a Student t interval over sessions. Rounds of a session are not independent: they
    share the memory addresses of the weights.
    """
    assert dense.shape == pruned.shape, (dense.shape, pruned.shape)
    assert sessions >= MINIMUM_SESSIONS, sessions
    logs = np.log(dense / pruned).reshape(sessions, -1)
    medians = np.median(logs, axis=1)
    half = _T95[min(sessions - 1, len(_T95)) - 1] * float(medians.std(ddof=1)) / math.sqrt(sessions)
    middle = float(medians.mean())
    return Ratio(math.exp(middle), math.exp(middle - half), math.exp(middle + half))
