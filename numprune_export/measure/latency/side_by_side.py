"""Latency of any number of models in the same interleaved rounds, each relative to the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from numprune_export.core.metric import Metric, Metrics
from numprune_export.measure.latency.interleave import Protocol, in_sessions
from numprune_export.measure.latency.sessions import Reopened, reopener
from numprune_export.measure.latency.speedup import compared, times
from numprune_export.measure.latency.timing import Workload

R = TypeVar("R")


def measure(
    runners: Mapping[str, R],
    conditions: Mapping[str, Mapping[str, Any]],
    workload: Workload[R],
    protocol: Protocol,
) -> Metrics:
    """Time every model at every timing.

    Args:
        runners: By model. `Reopened` runners are reopened between sessions.
        conditions: Conditions of the metrics, by model.
        workload: The timed operations.
        protocol: There are timings * `protocol.rounds` rounds.

    Returns:
        `latency.<model>.<timing>.{p50_ms,p90_ms,p99_ms,cpu_ms,tokens_per_s}`, and for all but the
        first model `.speedup` relative to the first, above 1 if faster.

    Raises:
        RecipeError: there are fewer samples than `MINIMUM_SAMPLES`.
    """
    timings = workload.timings(runners)
    reopened = {name: runner for name, runner in runners.items() if isinstance(runner, Reopened)}
    taken = in_sessions(
        {key: timing.contenders for key, timing in timings.items()},
        protocol,
        [reopener(list(reopened.values()))],
        {key: timing.work for key, timing in timings.items()},
    )
    metrics: Metrics = {}
    for key, timing in timings.items():
        rows = {name: timing.scaled(samples) for name, samples in taken[key].items()}
        first = next(iter(rows))
        for name, row in rows.items():
            stem = f"latency.{name}.{key}"
            sessions = protocol.sessions if {name, first} & reopened.keys() else 1
            under = {**timing.conditions, **conditions[name], "sessions": sessions}
            metrics |= times(stem, row, timing.tokens, under)
            if name != first:
                ratio = compared(
                    rows[first].wall_ms, row.wall_ms, seed=protocol.seed, sessions=sessions
                )
                metrics[f"{stem}.speedup"] = Metric(
                    ratio.value, "ratio", len(row.wall_ms), ratio.low, ratio.high, under
                )
    return metrics
