"""Forward latency of encoders by batch and length, dense beside pruned, in the same rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import perf_counter_ns, process_time_ns
from typing import Any

import numpy as np

from numprune_export.core.errors import InputError
from numprune_export.core.metric import Metrics
from numprune_export.export.artifact import Tokens
from numprune_export.export.encoder import EncoderRunner
from numprune_export.measure.latency.interleave import Contender, Keep, keep_none
from numprune_export.measure.latency.pairs import Pair, measure_pairs
from numprune_export.measure.latency.timing import Repeated, Timing, discard


@dataclass(frozen=True)
class Bucket:
    """One shape that is timed; all texts of it are full."""

    batch: int
    length: int

    @property
    def name(self) -> str:
        return f"b{self.batch}.l{self.length}"

    @property
    def tokens(self) -> int:
        return self.batch * self.length


BUCKETS = tuple(Bucket(batch, length) for batch in (1, 8, 32) for length in (16, 64, 128))


@dataclass(frozen=True)
class EncoderWorkload(Repeated):
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
    def work(self) -> int:
        """Steps of progress of all rounds: tokens that each model is run on."""
        return self.rounds * sum(bucket.tokens for bucket in self.buckets)

    def inputs(self, bucket: Bucket) -> Tokens:
        """Token ids of the bucket's shape."""
        rows, width = self.tokens.shape
        picked = self.tokens[np.arange(bucket.batch) % rows][:, np.arange(bucket.length) % width]
        return np.ascontiguousarray(picked)


def measure_encoders(
    targets: Mapping[str, Pair[EncoderRunner]],
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
        ideal: The speed-up that the removed work allows (`encoder_cost.ideal_speedup`). It counts
            multiply-accumulates at every size, also where so few tokens are run that reading the
            weights takes as long.
        others: See `measure_pairs`.

    Returns:
        As `measure_pairs`, of the timings `forward.b<batch>.l<length>`.

    Raises:
        RecipeError: fewer samples than an interval needs.
    """
    buckets = {_name(one): one for one in workload.buckets}

    def against_macs(runners: Mapping[str, EncoderRunner]) -> dict[str, Timing]:
        return {
            name: replace(one, conditions={**one.conditions, "ideal_from": "MACs"})
            for name, one in timings(runners, workload).items()
        }

    return measure_pairs(
        targets,
        against_macs,
        workload,
        ideal=lambda name: ideal(buckets[name]),
        conditions=conditions,
        reopen=reopen,
        seed=seed,
        clock=clock,
        cpu_clock=cpu_clock,
        progress=progress,
        keep=keep,
    )


def timings(runners: Mapping[str, EncoderRunner], workload: EncoderWorkload) -> dict[str, Timing]:
    """A forward pass of every shape, of any number of open models."""
    return {
        _name(bucket): Timing(
            {name: contender(one, workload.inputs(bucket)) for name, one in runners.items()},
            bucket.tokens,
            {"batch": bucket.batch, "length": bucket.length},
            work=bucket.tokens,
        )
        for bucket in workload.buckets
    }


def _name(bucket: Bucket) -> str:
    return f"forward.{bucket.name}"


def contender(runner: EncoderRunner, tokens: Tokens) -> Contender:
    """An open model as what is timed."""
    return Contender(lambda: discard(runner.forward(tokens)))
