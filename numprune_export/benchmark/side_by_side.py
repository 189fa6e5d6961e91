"""Any number of models timed in the same interleaved rounds, each against the first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from numprune_export.artifact import DecoderRunner
from numprune_export.benchmark import encoder_latency, latency
from numprune_export.benchmark.encoder_latency import EncoderWorkload
from numprune_export.benchmark.interleave import Contender, Samples, in_sessions
from numprune_export.benchmark.latency import PHASES, Workload
from numprune_export.benchmark.timed import compared, times
from numprune_export.encoder import EncoderRunner
from numprune_export.metric import Metric, Metrics


@dataclass(frozen=True)
class Timing:
    """One thing that is timed of all models: a phase, or a shape."""

    contenders: Mapping[str, Contender]
    tokens: int
    """That one sample's time is for."""
    conditions: Mapping[str, Any]
    scaled: Callable[[Samples], Samples]


def decoders(runners: Mapping[str, DecoderRunner], workload: Workload) -> dict[str, Timing]:
    """Prefill and decode."""
    return {
        phase: Timing(
            {name: latency.contender(phase, one, workload) for name, one in runners.items()},
            workload.timed_tokens(phase),
            workload.conditions(phase),
            lambda samples, phase=phase: latency.per_token(samples, phase, workload),  # type: ignore[misc]
        )
        for phase in PHASES
    }


def encoders(runners: Mapping[str, EncoderRunner], workload: EncoderWorkload) -> dict[str, Timing]:
    """A forward pass of every shape."""
    return {
        f"forward.{bucket.name}": Timing(
            {
                name: encoder_latency.contender(one, workload.inputs(bucket))
                for name, one in runners.items()
            },
            bucket.batch * bucket.length,
            {"batch": bucket.batch, "length": bucket.length},
            lambda samples: samples,
        )
        for bucket in workload.buckets
    }


def measure(
    timings: Mapping[str, Timing],
    *,
    warmup: int,
    samples: int,
    sessions: int,
    conditions: Mapping[str, Mapping[str, Any]],
    reopen: Callable[[], None] | None = None,
    reopened: Collection[str] = (),
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Metrics:
    """Time everything.

    Args:
        timings: From `decoders` or `encoders`.
        warmup: Rounds that are not counted, per session.
        samples: Rounds in all, at least.
        sessions: Times that models are opened anew.
        conditions: By model, what else holds.
        reopen: What opens models anew between sessions; None: nothing does.
        reopened: The models that it opens.
        seed: Of the bootstrap.
        progress: Called with 1 after every round.

    Returns:
        `latency.<model>.<timing>.{p50_ms,p90_ms,p99_ms,cpu_ms,tokens_per_s}`, and of all but the first
        model `.speedup`: how many times as fast it is as the first.

    Raises:
        RecipeError: fewer samples than an interval needs.
    """
    fields = {key: one.contenders for key, one in timings.items()}
    taken = in_sessions(
        fields,
        sessions=sessions,
        warmup=warmup,
        samples=samples,
        reopen=() if reopen is None else (reopen,),
        progress=progress,
    )
    found: Metrics = {}
    for key, timing in timings.items():
        rows = {name: timing.scaled(one) for name, one in taken[key].items()}
        first = next(iter(rows))
        for name, row in rows.items():
            stem = f"latency.{name}.{key}"
            own = sessions if {name, first} & set(reopened) else 1
            under = {**timing.conditions, **conditions[name], "sessions": own}
            found |= times(stem, row, timing.tokens, under)
            if name != first:
                ratio = compared(rows[first].wall_ms, row.wall_ms, seed=seed, sessions=own)
                found[f"{stem}.speedup"] = Metric(
                    ratio.value, "ratio", len(row.wall_ms), ratio.low, ratio.high, under
                )
    return found
