"""Prefill and decode latency of decoders, dense beside pruned, measured in the same rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns, process_time_ns
from typing import Any, Literal

import numpy as np

from numprune_export.core.errors import InputError
from numprune_export.core.metric import Metrics
from numprune_export.export.runner import DecoderRunner, Tokens
from numprune_export.measure.latency.interleave import Contender, Keep, Samples, keep_none
from numprune_export.measure.latency.pairs import Pair, measure_pairs
from numprune_export.measure.latency.timing import Repeated, Timing, discard

Phase = Literal["prefill", "decode"]
PHASES: tuple[Phase, ...] = ("prefill", "decode")


@dataclass(frozen=True)
class Workload(Repeated):
    """What is timed: one prompt's prefill, and a run of tokens after a past of given length."""

    tokens: Tokens
    """Prompt ids, (batch, at least max(prefill_length, past_length)); all rows full."""
    prefill_length: int
    past_length: int
    decode_steps: int
    """Tokens per decode sample; a sample is their mean time."""
    warmup: int
    samples: int
    sessions: int = 1
    """Times the models are opened anew, the rounds shared among them."""

    def __post_init__(self) -> None:
        longest = max(self.prefill_length, self.past_length)
        if self.tokens.ndim != 2 or self.tokens.shape[1] < longest:
            raise InputError(
                f"benchmark prompt of shape `{self.tokens.shape}` is shorter than {longest} tokens",
                hint="give a longer prompt, or time a shorter one",
            )

    @property
    def capacity(self) -> int:
        """The longest sequence a runner must hold."""
        return max(self.prefill_length, self.past_length + self.decode_steps)

    @property
    def batch(self) -> int:
        return int(self.tokens.shape[0])

    def timed_tokens(self, phase: Phase) -> int:
        """How many tokens one sample's time is for."""
        return self.batch * (self.prefill_length if phase == "prefill" else 1)

    def conditions(self, phase: Phase) -> dict[str, Any]:
        if phase == "prefill":
            return {"batch": self.batch, "prompt_tokens": self.prefill_length}
        return {
            "batch": self.batch,
            "past_tokens": self.past_length,
            "tokens_per_sample": self.decode_steps,
        }


def measure_decoders(
    targets: Mapping[str, Pair[DecoderRunner]],
    workload: Workload,
    *,
    ideal: Mapping[Phase, float],
    conditions: Mapping[str, Mapping[str, Any]],
    rebuilds: Mapping[str, Sequence[DecoderRunner]] | None = None,
    reopen: Mapping[str, Callable[[], None]] | None = None,
    seed: int = 0,
    clock: Callable[[], int] = perf_counter_ns,
    cpu_clock: Callable[[], int] = process_time_ns,
    progress: Callable[[int], None] | None = None,
    keep: Keep = keep_none,
) -> Metrics:
    """Time to first token and time per output token of every target, all in the same rounds.

    Args:
        ideal: The speed-up that the removed work allows (`cost.ideal_speedups`).
        others: See `measure_pairs`.

    Returns:
        As `measure_pairs`, of the timings `prefill` and `decode`. A decode time is per token of each
        sequence.

    Raises:
        RecipeError: fewer samples than an interval needs.
    """
    by_name: Mapping[str, float] = {phase: ideal[phase] for phase in PHASES}
    return measure_pairs(
        targets,
        partial(timings, workload=workload),
        workload,
        ideal=by_name.__getitem__,
        conditions=conditions,
        rebuilds=rebuilds,
        reopen=reopen,
        seed=seed,
        clock=clock,
        cpu_clock=cpu_clock,
        progress=progress,
        keep=keep,
    )


def timings(runners: Mapping[str, DecoderRunner], workload: Workload) -> dict[str, Timing]:
    """Prefill and decode, of any number of open models."""
    return {
        phase: Timing(
            {name: contender(phase, one, workload) for name, one in runners.items()},
            workload.timed_tokens(phase),
            workload.conditions(phase),
            partial(per_token, phase=phase, workload=workload),
        )
        for phase in PHASES
    }


def contender(phase: Phase, runner: DecoderRunner, workload: Workload) -> Contender:
    """An open model as what is timed in a phase."""
    if phase == "prefill":
        prompt = np.ascontiguousarray(workload.tokens[:, : workload.prefill_length])
        return Contender(lambda: discard(runner.prefill(prompt)))
    past = np.ascontiguousarray(workload.tokens[:, : workload.past_length])
    following = np.ascontiguousarray(workload.tokens[:, 0])

    def decode() -> None:
        for _ in range(workload.decode_steps):
            runner.decode(following)

    return Contender(decode, prepare=lambda: discard(runner.prefill(past)))


def per_token(samples: Samples, phase: Phase, workload: Workload) -> Samples:
    """Times of a decode sample's tokens, one by one; of a prefill as they are."""
    steps = workload.decode_steps if phase == "decode" else 1
    return Samples(samples.wall_ms / steps, samples.cpu_ms / steps)
