"""Dense beside pruned on every target, in the same rounds: their times, and how they compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns, process_time_ns
from typing import Any, Generic, TypeVar

from numprune_export.core.metric import Metric, Metrics
from numprune_export.measure.latency.interleave import Keep, Samples, in_sessions, keep_none
from numprune_export.measure.latency.speedup import speedup, times
from numprune_export.measure.latency.statistics import percentile
from numprune_export.measure.latency.timing import Repeated, Timing

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class Pair(Generic[R_co]):
    """The dense and the pruned model on one target, both open."""

    dense: R_co
    pruned: R_co


def measure_pairs(
    targets: Mapping[str, Pair[R]],
    timings_of: Callable[[Mapping[str, R]], Mapping[str, Timing]],
    workload: Repeated,
    *,
    ideal: Callable[[str], float],
    conditions: Mapping[str, Mapping[str, Any]],
    rebuilds: Mapping[str, Sequence[R]] | None = None,
    reopen: Mapping[str, Callable[[], None]] | None = None,
    seed: int = 0,
    clock: Callable[[], int] = perf_counter_ns,
    cpu_clock: Callable[[], int] = process_time_ns,
    progress: Callable[[int], None] | None = None,
    keep: Keep = keep_none,
) -> Metrics:
    """Time every pair at every timing, all in the same rounds.

    Args:
        targets: Target name to its runners; `torch` is one like any other.
        timings_of: What is timed of runners, by what the names of metrics say: `decode`.
        workload: How often.
        ideal: Of a timing, the speed-up that the removed work allows.
        conditions: Per target, what else holds: dtype, threads, device, runtime version.
        rebuilds: Per target, further builds of its pruned model, timed in the same rounds.
        reopen: Per target that can be, what opens its pair anew; the others stay as they are.
        seed: Of the bootstrap.
        progress: Called after every round with its work; there are `workload.rounds` of each timing.
        keep: Told the samples of every target's dense and pruned model, as they are reported.

    Returns:
        `latency.<target>.<timing>.{dense,pruned}.{p50_ms,p90_ms,p99_ms,cpu_ms,tokens_per_s}` and
        `latency.<target>.<timing>.{speedup,speedup_low,speedup_high,ideal,of_ideal,cpu_speedup}`;
        `cpu_ms` is the median processor time, and `cpu_speedup` its ratio, which other work on the
        machine disturbs less than `speedup`. `latency.<target>.<timing>.pruned.rebuild_spread`,
        where there are rebuilds: how much slower the slowest build's median is than the fastest's,
        as a fraction.

    Raises:
        RecipeError: fewer samples than an interval needs.
    """
    rebuilds, reopen = rebuilds or {}, reopen or {}
    timings = timings_of(_by_name(targets, rebuilds))
    taken = in_sessions(
        {key: one.contenders for key, one in timings.items()},
        sessions=workload.sessions,
        warmup=workload.warmup,
        samples=workload.samples,
        reopen=reopen.values(),
        clock=clock,
        cpu_clock=cpu_clock,
        progress=progress,
        work={key: timing.work for key, timing in timings.items()},
    )
    found: Metrics = {}
    for key, timing in timings.items():
        for target in targets:
            sessions = workload.sessions if target in reopen else 1
            under = {**timing.conditions, **conditions[target]}
            under |= {"sessions": sessions} if sessions > 1 else {}
            name = f"latency.{target}.{key}"
            dense, pruned = (taken[key][f"{target}.{one}"] for one in ("dense", "pruned"))
            found |= _reported(
                name, timing, dense, pruned,
                ideal=ideal(key), under=under, seed=seed, sessions=sessions, keep=keep,
            )  # fmt: skip
            builds = [taken[key][one] for one in _builds(target, rebuilds)]
            found |= _spread(name, [pruned, *builds], under) if builds else {}
    return found


def _by_name(targets: Mapping[str, Pair[R]], rebuilds: Mapping[str, Sequence[R]]) -> dict[str, R]:
    """All runners, by the names that they are timed under."""
    found: dict[str, R] = {}
    for target, pair in targets.items():
        found |= {f"{target}.dense": pair.dense, f"{target}.pruned": pair.pruned}
    for target in rebuilds:
        found |= _builds(target, rebuilds)
    return found


def _builds(target: str, rebuilds: Mapping[str, Sequence[R]]) -> dict[str, R]:
    return {f"{target}.build{index}": one for index, one in enumerate(rebuilds.get(target, ()))}


def _reported(
    name: str,
    timing: Timing,
    dense: Samples,
    pruned: Samples,
    *,
    ideal: float,
    under: Mapping[str, Any],
    seed: int,
    sessions: int,
    keep: Keep,
) -> Metrics:
    """Times of both variants, and how they compare; `keep` is told their samples."""
    dense, pruned = timing.scaled(dense), timing.scaled(pruned)
    keep(f"{name}.dense", dense)
    keep(f"{name}.pruned", pruned)
    return {
        **times(f"{name}.dense", dense, timing.tokens, under),
        **times(f"{name}.pruned", pruned, timing.tokens, under),
        **speedup(name, dense, pruned, ideal=ideal, under=under, seed=seed, sessions=sessions),
    }


def _spread(name: str, builds: Sequence[Samples], under: Mapping[str, Any]) -> Metrics:
    medians = [percentile(one.wall_ms, 50) for one in builds]
    spread = max(medians) / min(medians) - 1
    under = {**under, "builds": len(builds)}
    count = len(builds[0].wall_ms)
    return {f"{name}.pruned.rebuild_spread": Metric(spread, "fraction", count, conditions=under)}
