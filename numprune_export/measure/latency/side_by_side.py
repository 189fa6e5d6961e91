"""Any number of models timed in the same interleaved rounds, each against the first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from numprune_export.core.metric import Metric, Metrics
from numprune_export.measure.latency.interleave import in_sessions
from numprune_export.measure.latency.speedup import compared, times
from numprune_export.measure.latency.timing import Timing


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
        timings: Of decoders (`latency.timings`), or of encoders (`encoder_latency.timings`).
        warmup: Rounds that are not counted, per session.
        samples: Rounds in all, at least.
        sessions: Times that models are opened anew.
        conditions: By model, what else holds.
        reopen: What opens models anew between sessions; None: nothing does.
        reopened: The models that it opens.
        seed: Of the bootstrap.
        progress: Called after every round with its work.

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
        work={key: timing.work for key, timing in timings.items()},
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
