"""Latency of the dense and the pruned model on every target, measured in the same rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from numprune_export.core.metric import Metric, Metrics
from numprune_export.measure.latency.interleave import Protocol, Samples, in_sessions
from numprune_export.measure.latency.speedup import speedup, times
from numprune_export.measure.latency.statistics import percentile
from numprune_export.measure.latency.timing import Timing, Workload

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class Pair(Generic[R_co]):
    """Open runners of the dense and the pruned model on one target."""

    dense: R_co
    pruned: R_co


@dataclass(frozen=True)
class LatencyRow(Generic[R_co]):
    """A row of a latency table: a target, or PyTorch."""

    pair: Pair[R_co]
    conditions: Mapping[str, Any] = field(default_factory=dict)
    """Conditions of its metrics: dtype, threads, device, runtime version."""
    reopen: Callable[[], None] | None = None
    """Reopens the pair; None: the pair stays open."""
    rebuilds: Sequence[R_co] = ()
    """More builds of the pruned model, timed in the same rounds."""


@dataclass(frozen=True)
class Latencies:
    """Metrics and samples of a latency measurement."""

    metrics: Metrics
    samples: Mapping[str, Samples]
    """As reported, by row, timing and variant: `latency.onnx.decode.pruned`."""


def measure_pairs(
    rows: Mapping[str, LatencyRow[R]], workload: Workload[R], protocol: Protocol
) -> Latencies:
    """Time every pair at every timing, all in the same rounds.

    Args:
        rows: By target, PyTorch as `torch`.
        workload: The timed operations.
        protocol: There are timings * `protocol.rounds` rounds.

    Returns:
        `latency.<target>.<timing>.{dense,pruned}.{p50_ms,p90_ms,p99_ms,cpu_ms,tokens_per_s}` and
        `latency.<target>.<timing>.{speedup,speedup_low,speedup_high,ideal,of_ideal,cpu_speedup}`;
        `cpu_ms` is the median processor time and `cpu_speedup` its ratio, which is less affected by
        other load than `speedup`. `ideal` and `of_ideal` are present if the workload has an ideal.
        With rebuilds also `latency.<target>.<timing>.pruned.rebuild_spread`: the median of the
        slowest build relative to the fastest, minus 1.

    Raises:
        RecipeError: there are fewer samples than `MINIMUM_SAMPLES`.
    """
    timings = workload.timings(
        {
            f"{target}.{variant}": runner
            for target, row in rows.items()
            for variant, runner in _variants(row).items()
        }
    )
    taken = in_sessions(
        {key: timing.contenders for key, timing in timings.items()},
        protocol,
        [row.reopen for row in rows.values() if row.reopen is not None],
        {key: timing.work for key, timing in timings.items()},
    )
    metrics, samples = Metrics(), dict[str, Samples]()
    for key, timing in timings.items():
        for target, row in rows.items():
            own = {variant: taken[key][f"{target}.{variant}"] for variant in _variants(row)}
            reported = _reported(f"latency.{target}.{key}", row, timing, own, protocol)
            metrics |= reported.metrics
            samples |= reported.samples
    return Latencies(metrics, samples)


def _variants(row: LatencyRow[R]) -> dict[str, R]:
    """All runners of a row, by variant."""
    builds = {f"build{number}": runner for number, runner in enumerate(row.rebuilds)}
    return {"dense": row.pair.dense, "pruned": row.pair.pruned, **builds}


def _reported(
    name: str,
    row: LatencyRow[R],
    timing: Timing,
    taken: Mapping[str, Samples],
    protocol: Protocol,
) -> Latencies:
    """Metrics of one row at one timing: times of both variants, and the speed-up."""
    dense, pruned = timing.scaled(taken["dense"]), timing.scaled(taken["pruned"])
    sessions = 1 if row.reopen is None else protocol.sessions
    under = {**timing.conditions, **row.conditions}
    under |= {"sessions": sessions} if sessions > 1 else {}
    ideal, seed = timing.ideal, protocol.seed
    metrics = {
        **times(f"{name}.dense", dense, timing.tokens, under),
        **times(f"{name}.pruned", pruned, timing.tokens, under),
        **speedup(name, dense, pruned, ideal=ideal, under=under, seed=seed, sessions=sessions),
    }
    if row.rebuilds:
        metrics |= _spread(name, [taken[key] for key in taken if key != "dense"], under)
    return Latencies(metrics, {f"{name}.dense": dense, f"{name}.pruned": pruned})


def _spread(name: str, builds: Sequence[Samples], under: Mapping[str, Any]) -> Metrics:
    medians = [percentile(build.wall_ms, 50) for build in builds]
    spread = max(medians) / min(medians) - 1
    under = {**under, "builds": len(builds)}
    count = len(builds[0].wall_ms)
    return {f"{name}.pruned.rebuild_spread": Metric(spread, "fraction", count, conditions=under)}
