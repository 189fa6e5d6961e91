"""Latency workload of encoders: a forward pass by batch size and length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from numprune_export.core.errors import InputError
from numprune_export.export.runner import EncoderRunner, Tokens
from numprune_export.measure.latency.interleave import Contender
from numprune_export.measure.latency.timing import Timing, discard


@dataclass(frozen=True)
class Bucket:
    """One timed input shape, without padding."""

    batch: int
    length: int

    @property
    def name(self) -> str:
        return f"b{self.batch}.l{self.length}"

    @property
    def tokens(self) -> int:
        return self.batch * self.length

    @property
    def timing(self) -> str:
        """The timing as named in metrics."""
        return f"forward.{self.name}"


BUCKETS = tuple(Bucket(batch, length) for batch in (1, 8, 32) for length in (16, 64, 128))


@dataclass(frozen=True)
class EncoderWorkload:
    """One forward pass per bucket."""

    tokens: Tokens
    """Token ids, (rows, tokens); cut to each bucket, or repeated if it is larger."""
    buckets: tuple[Bucket, ...]
    ideal: Mapping[str, float] | None = None
    """Ideal speed-up by timing, `forward.b<batch>.l<length>` (`cost.encoder.ideal_speedup`). It
    counts multiply-accumulates at every size, also for small inputs bound by reading weights."""

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or not self.tokens.size:
            raise InputError(
                f"benchmark text of shape `{self.tokens.shape}` does not have shape (rows, tokens)",
                hint="give token ids of shape (rows, tokens)",
            )

    def inputs(self, bucket: Bucket) -> Tokens:
        """Token ids of the bucket's shape."""
        rows, width = self.tokens.shape
        picked = self.tokens[np.arange(bucket.batch) % rows][:, np.arange(bucket.length) % width]
        return np.ascontiguousarray(picked)

    def timings(self, runners: Mapping[str, EncoderRunner]) -> dict[str, Timing]:
        """See Workload.timings: `forward.b<batch>.l<length>`."""
        return {bucket.timing: self._timing(bucket, runners) for bucket in self.buckets}

    def _timing(self, bucket: Bucket, runners: Mapping[str, EncoderRunner]) -> Timing:
        tokens = self.inputs(bucket)
        ideal_from = {} if self.ideal is None else {"ideal_from": "MACs"}
        return Timing(
            {name: _contender(runner, tokens) for name, runner in runners.items()},
            bucket.tokens,
            {"batch": bucket.batch, "length": bucket.length, **ideal_from},
            ideal=None if self.ideal is None else self.ideal[bucket.timing],
            work=bucket.tokens,
        )


def _contender(runner: EncoderRunner, tokens: Tokens) -> Contender:
    return Contender(lambda: discard(runner.forward(tokens)))
