"""Latency metrics of the report: times of one variant, and the speed-up between two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numprune_export.core.metric import Metric, Metrics
from numprune_export.measure.latency.interleave import Samples
from numprune_export.measure.latency.statistics import (
    MINIMUM_SESSIONS,
    Ratio,
    percentile,
    ratio_of_medians,
    ratio_over_sessions,
)


def times(name: str, samples: Samples, tokens: int, under: Mapping[str, Any]) -> Metrics:
    """`<name>.{p50_ms,p90_ms,p99_ms,cpu_ms,tokens_per_s}`.

    Args:
        tokens: Tokens processed per sample.
        under: Conditions of the metrics.
    """
    count = len(samples.wall_ms)
    ranks = {rank: percentile(samples.wall_ms, rank) for rank in (50, 90, 99)}
    rate = 1000 * tokens / ranks[50]
    return {
        **{
            f"{name}.p{rank}_ms": Metric(value, "ms", count, conditions=under)
            for rank, value in ranks.items()
        },
        f"{name}.cpu_ms": Metric(percentile(samples.cpu_ms, 50), "ms", count, conditions=under),
        f"{name}.tokens_per_s": Metric(rate, "tokens/s", count, conditions=under),
    }


def compared(
    first: NDArray[np.float64], second: NDArray[np.float64], *, seed: int, sessions: int
) -> Ratio:
    """Speed-up of the second over the first, from paired rounds, session by session."""
    if sessions < MINIMUM_SESSIONS:
        return ratio_of_medians(first, second, seed=seed)
    return ratio_over_sessions(first, second, sessions=sessions)


def speedup(
    name: str,
    dense: Samples,
    pruned: Samples,
    *,
    ideal: float | None,
    under: Mapping[str, Any],
    seed: int,
    sessions: int = 1,
) -> Metrics:
    """`<name>.{speedup,speedup_low,speedup_high,ideal,of_ideal,cpu_speedup}` of paired rounds.

    Args:
        ideal: Ideal speed-up; None: neither `ideal` nor `of_ideal` is reported.
        seed: Of the bootstrap, used if there are too few sessions for an interval over them.
        sessions: How many times the two were opened; each session has the same number of rounds.
    """
    ratio = compared(dense.wall_ms, pruned.wall_ms, seed=seed, sessions=sessions)
    count = len(dense.wall_ms)
    values = {"speedup_low": ratio.low, "speedup_high": ratio.high}
    values |= {} if ideal is None else {"ideal": ideal, "of_ideal": ratio.value / ideal}
    metrics = {f"{name}.speedup": Metric(ratio.value, "ratio", count, ratio.low, ratio.high, under)}
    # Zero if the clock's resolution is coarser than a sample. GPU work is not included.
    if under.get("device") != "cuda" and dense.cpu_ms.min() > 0 and pruned.cpu_ms.min() > 0:
        busy = compared(dense.cpu_ms, pruned.cpu_ms, seed=seed, sessions=sessions)
        metrics[f"{name}.cpu_speedup"] = Metric(
            busy.value, "ratio", count, busy.low, busy.high, under
        )
    return {
        **metrics,
        **{
            f"{name}.{key}": Metric(value, "ratio", count, conditions=under)
            for key, value in values.items()
        },
    }
