"""Prefill and decode latency of decoders, dense beside pruned, measured in the same rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns, process_time_ns
from typing import Any, Literal

import numpy as np

from numprune_export.artifact import DecoderRunner, Tokens
from numprune_export.benchmark.interleave import (
    Contender,
    Keep,
    Samples,
    in_sessions,
    keep_none,
    rounds_of,
)
from numprune_export.benchmark.statistics import percentile
from numprune_export.benchmark.timed import speedup, times
from numprune_export.errors import InputError
from numprune_export.metric import Metric, Metrics

Phase = Literal["prefill", "decode"]
PHASES: tuple[Phase, ...] = ("prefill", "decode")


@dataclass(frozen=True)
class Workload:
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
    def rounds(self) -> int:
        """Of each phase, warm-up included."""
        return self.sessions * (self.warmup + rounds_of(self.samples, self.sessions))

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


@dataclass(frozen=True)
class Pair:
    """The dense and the pruned model on one target, both open."""

    dense: DecoderRunner
    pruned: DecoderRunner


def measure_decoders(
    targets: Mapping[str, Pair],
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
        targets: Target name to its runners; `torch` is one like any other.
        ideal: The speed-up that the removed work allows (`cost.ideal_speedups`).
        conditions: Per target, what else holds: dtype, threads, device, runtime version.
        rebuilds: Per target, further builds of its pruned model, timed in the same rounds.
        reopen: Per target that can be, what opens its pair anew; the others stay as they are.
        seed: Of the bootstrap.
        progress: Called with 1 after every round; there are 2 * `workload.rounds`.
        keep: Told the samples of every target's dense and pruned model, as times per token.

    Returns:
        `latency.<target>.<phase>.{dense,pruned}.{p50_ms,p90_ms,p99_ms,cpu_ms,tokens_per_s}` and
        `latency.<target>.<phase>.{speedup,speedup_low,speedup_high,ideal,of_ideal,cpu_speedup}`.
        A decode time is per token of each sequence; `cpu_ms` is the median processor time, and
        `cpu_speedup` its ratio, which other work on the machine disturbs less than `speedup`.
        `latency.<target>.<phase>.pruned.rebuild_spread`, where there are rebuilds: how much slower
        the slowest build's median is than the fastest's, as a fraction.

    Raises:
        RecipeError: fewer samples than an interval needs.
    """
    found: Metrics = {}
    rebuilds, reopen = rebuilds or {}, reopen or {}
    runners = {
        f"{target}.{variant}": getattr(pair, variant)
        for target, pair in targets.items()
        for variant in ("dense", "pruned")
    }
    for target, builds in rebuilds.items():
        runners |= {f"{target}.build{index}": one for index, one in enumerate(builds)}
    timed = in_sessions(
        {
            phase: {name: contender(phase, one, workload) for name, one in runners.items()}
            for phase in PHASES
        },
        sessions=workload.sessions,
        warmup=workload.warmup,
        samples=workload.samples,
        reopen=reopen.values(),
        clock=clock,
        cpu_clock=cpu_clock,
        progress=progress,
    )
    for phase, timings in timed.items():
        for target in targets:
            sessions = workload.sessions if target in reopen else 1
            under = {**workload.conditions(phase), **conditions[target]}
            under |= {"sessions": sessions} if sessions > 1 else {}
            dense = per_token(timings[f"{target}.dense"], phase, workload)
            pruned = per_token(timings[f"{target}.pruned"], phase, workload)
            name = f"latency.{target}.{phase}"
            keep(f"{name}.dense", dense)
            keep(f"{name}.pruned", pruned)
            found |= times(f"{name}.dense", dense, workload.timed_tokens(phase), under)
            found |= times(f"{name}.pruned", pruned, workload.timed_tokens(phase), under)
            found |= speedup(
                name, dense, pruned, ideal=ideal[phase], under=under, seed=seed, sessions=sessions
            )
            if rebuilds.get(target):
                count = len(rebuilds[target])
                others = [timings[f"{target}.build{index}"] for index in range(count)]
                found |= _spread(name, [timings[f"{target}.pruned"], *others], under)
    return found


def contender(phase: Phase, runner: DecoderRunner, workload: Workload) -> Contender:
    """An open model as what is timed in a phase."""
    if phase == "prefill":
        prompt = np.ascontiguousarray(workload.tokens[:, : workload.prefill_length])
        return Contender(lambda: _discard(runner.prefill(prompt)))
    past = np.ascontiguousarray(workload.tokens[:, : workload.past_length])
    following = np.ascontiguousarray(workload.tokens[:, 0])

    def decode() -> None:
        for _ in range(workload.decode_steps):
            runner.decode(following)

    return Contender(decode, prepare=lambda: _discard(runner.prefill(past)))


def _discard(_: object) -> None: ...


def per_token(samples: Samples, phase: Phase, workload: Workload) -> Samples:
    """Times of a decode sample's tokens, one by one; of a prefill as they are."""
    steps = workload.decode_steps if phase == "decode" else 1
    return Samples(samples.wall_ms / steps, samples.cpu_ms / steps)


def _spread(name: str, builds: Sequence[Samples], under: dict[str, Any]) -> Metrics:
    medians = [percentile(one.wall_ms, 50) for one in builds]
    spread = max(medians) / min(medians) - 1
    under = {**under, "builds": len(builds)}
    count = len(builds[0].wall_ms)
    return {f"{name}.pruned.rebuild_spread": Metric(spread, "fraction", count, conditions=under)}
