"""Latency workload of decoders: prefill and decode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from numprune_export.core.errors import InputError
from numprune_export.export.runner import DecoderRunner, Tokens
from numprune_export.measure.latency.interleave import Contender, Samples
from numprune_export.measure.latency.timing import Timing, discard

Phase = Literal["prefill", "decode"]
PHASES: tuple[Phase, ...] = ("prefill", "decode")


@dataclass(frozen=True)
class DecoderWorkload:
    """The prefill of one prompt, and decode steps after a past of a given length."""

    tokens: Tokens
    """Prompt ids, (batch, at least max(prefill_length, past_length)), without padding."""
    prefill_length: int
    past_length: int
    decode_steps: int
    """Tokens per decode sample; a sample is their mean time."""
    ideal: Mapping[str, float] | None = None
    """Ideal speed-up by phase (`cost.decoder.ideal_speedups`)."""

    def __post_init__(self) -> None:
        longest = max(self.prefill_length, self.past_length)
        if self.tokens.ndim != 2 or self.tokens.shape[1] < longest:
            raise InputError(
                f"benchmark prompt of shape `{self.tokens.shape}` is shorter than {longest} tokens",
                hint="give a longer prompt, or lower the prefill and past lengths",
            )

    @property
    def capacity(self) -> int:
        """Tokens of the longest sequence that a runner must hold."""
        return max(self.prefill_length, self.past_length + self.decode_steps)

    @property
    def batch(self) -> int:
        return int(self.tokens.shape[0])

    def timings(self, runners: Mapping[str, DecoderRunner]) -> dict[str, Timing]:
        """See Workload.timings: `prefill`, and `decode` with times per token of each sequence."""
        under = {"batch": self.batch}
        return {
            "prefill": Timing(
                {name: self._prefill(runner) for name, runner in runners.items()},
                self.batch * self.prefill_length,
                {**under, "prompt_tokens": self.prefill_length},
                ideal=self._ideal("prefill"),
            ),
            "decode": Timing(
                {name: self._decode(runner) for name, runner in runners.items()},
                self.batch,
                {**under, "past_tokens": self.past_length, "tokens_per_sample": self.decode_steps},
                self._per_token,
                self._ideal("decode"),
            ),
        }

    def _ideal(self, phase: Phase) -> float | None:
        return None if self.ideal is None else self.ideal[phase]

    def _prefill(self, runner: DecoderRunner) -> Contender:
        prompt = np.ascontiguousarray(self.tokens[:, : self.prefill_length])
        return Contender(lambda: discard(runner.prefill(prompt)))

    def _decode(self, runner: DecoderRunner) -> Contender:
        past = np.ascontiguousarray(self.tokens[:, : self.past_length])
        following = np.ascontiguousarray(self.tokens[:, 0])

        def decode() -> None:
            for _ in range(self.decode_steps):
                runner.decode(following)

        return Contender(decode, prepare=lambda: discard(runner.prefill(past)))

    def _per_token(self, samples: Samples) -> Samples:
        return Samples(samples.wall_ms / self.decode_steps, samples.cpu_ms / self.decode_steps)
