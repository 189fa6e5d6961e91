"""Forward latency of encoders by batch and length, dense beside pruned, in the same rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter_ns, process_time_ns
from typing import Any

import numpy as np

from numprune_export.artifact import Tokens
from numprune_export.benchmark.interleave import Contender, Keep, in_sessions, keep_none, rounds_of
from numprune_export.benchmark.timed import speedup, times
from numprune_export.encoder import EncoderRunner
from numprune_export.errors import InputError
from numprune_export.metric import Metrics


@dataclass(frozen=True)
class Bucket:
    """One shape that is timed; all texts of it are full."""

    batch: int
    length: int

    @property
    def name(self) -> str:
        return f"b{self.batch}.l{self.length}"


BUCKETS = tuple(Bucket(batch, length) for batch in (1, 8, 32) for length in (16, 64, 128))


@dataclass(frozen=True)
class EncoderWorkload:
    """What is timed, and how often."""

    tokens: Tokens
    """Text, (rows, tokens); cut to each bucket, and repeated where it is larger."""
    buckets: tuple[Bucket, ...]
    warmup: int
    samples: int
    sessions: int = 1
    """Times the models are opened anew, the rounds shared among them."""

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or not self.tokens.size:
            raise InputError(
                f"benchmark text of shape `{self.tokens.shape}` is not rows of tokens",
                hint="give token ids of shape (rows, tokens)",
            )

    @property
    def rounds(self) -> int:
        """Of each bucket, warm-up included."""
        return self.sessions * (self.warmup + rounds_of(self.samples, self.sessions))

    def inputs(self, bucket: Bucket) -> Tokens:
        """Token ids of the bucket's shape."""
        rows, width = self.tokens.shape
        picked = self.tokens[np.arange(bucket.batch) % rows][:, np.arange(bucket.length) % width]
        return np.ascontiguousarray(picked)


@dataclass(frozen=True)
class EncoderPair:
    """The dense and the pruned model on one target, both open."""

    dense: EncoderRunner
    pruned: EncoderRunner


def measure_encoders(
    targets: Mapping[str, EncoderPair],
    workload: EncoderWorkload,
    *,
    ideal: Callable[[Bucket], float],
    conditions: Mapping[str, Mapping[str, Any]],
    reopen: Mapping[str, Callable[[], None]] | None = None,
    seed: int = 0,
    clock: Callable[[], int] = perf_counter_ns,
    cpu_clock: Callable[[], int] = process_time_ns,
    progress: Callable[[int], None] | None = None,
    keep: Keep = keep_none,
) -> Metrics:
    """Time a forward pass of every target at every bucket, all targets in the same rounds.

    Args:
        targets: Target name to its runners; `torch` is one like any other.
        ideal: The speed-up that the removed work allows (`encoder_cost.ideal_speedup`). It counts
            multiply-accumulates at every size, also where so few tokens are run that reading the
            weights takes as long.
        conditions: Per target, what else holds: dtype, threads, device, runtime version.
        reopen: Per target that can be, what opens its pair anew; the others stay as they are.
        seed: Of the bootstrap.
        progress: Called with 1 after every round; there are buckets * `workload.rounds`.
        keep: Told the samples of every target's dense and pruned model at every bucket.

    Returns:
        `latency.<target>.forward.<bucket>.{dense,pruned}.{p50_ms,p90_ms,p99_ms,cpu_ms,tokens_per_s}`
        and `latency.<target>.forward.<bucket>.{speedup,speedup_low,speedup_high,ideal,of_ideal,
        cpu_speedup}`, with a bucket named `b<batch>.l<length>`.

    Raises:
        RecipeError: fewer samples than an interval needs.
    """
    found: Metrics = {}
    reopen = reopen or {}
    timed = in_sessions(
        {
            bucket: {
                f"{target}.{variant}": contender(getattr(pair, variant), workload.inputs(bucket))
                for target, pair in targets.items()
                for variant in ("dense", "pruned")
            }
            for bucket in workload.buckets
        },
        sessions=workload.sessions,
        warmup=workload.warmup,
        samples=workload.samples,
        reopen=reopen.values(),
        clock=clock,
        cpu_clock=cpu_clock,
        progress=progress,
    )
    for bucket, timings in timed.items():
        tokens = bucket.batch * bucket.length
        for target in targets:
            sessions = workload.sessions if target in reopen else 1
            under = {
                "batch": bucket.batch,
                "length": bucket.length,
                "ideal_from": "MACs",
                **conditions[target],
            }
            under |= {"sessions": sessions} if sessions > 1 else {}
            dense, pruned = timings[f"{target}.dense"], timings[f"{target}.pruned"]
            name = f"latency.{target}.forward.{bucket.name}"
            keep(f"{name}.dense", dense)
            keep(f"{name}.pruned", pruned)
            found |= times(f"{name}.dense", dense, tokens, under)
            found |= times(f"{name}.pruned", pruned, tokens, under)
            found |= speedup(
                name,
                dense,
                pruned,
                ideal=ideal(bucket),
                under=under,
                seed=seed,
                sessions=sessions,
            )
    return found


def contender(runner: EncoderRunner, tokens: Tokens) -> Contender:
    """An open model as what is timed."""
    return Contender(lambda: _discard(runner.forward(tokens)))


def _discard(_: object) -> None: ...
