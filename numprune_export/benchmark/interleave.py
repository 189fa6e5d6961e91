"""The timing protocol: contenders take turns, so that whatever drifts hits all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter_ns, process_time_ns

import numpy as np
from numpy.typing import NDArray

from numprune_export.errors import RecipeError

MINIMUM_SAMPLES = 5
"""Fewer rounds cannot carry a bootstrap interval: it would be narrow whatever the noise."""


def _nothing() -> None: ...


@dataclass(frozen=True)
class Contender:
    """What is timed. `step` must return only when its work is done, the device drained."""

    step: Callable[[], None]
    prepare: Callable[[], None] = _nothing
    """Brings the state that `step` starts from; runs before every step, never timed."""


@dataclass(frozen=True)
class Samples:
    """Times of one contender, (rounds,) each, in round order: index i of two contenders pairs."""

    wall_ms: NDArray[np.float64]
    cpu_ms: NDArray[np.float64]
    """Of all threads of this process, so it is above wall time where threads share the work and
    below it where the machine was taken away."""


Keep = Callable[[str, Samples], None]
"""Told the name of a row of timings, `latency.onnx.decode.pruned`, and its samples."""


def keep_none(_name: str, _samples: Samples) -> None: ...


def paired(
    contenders: Mapping[str, Contender | Callable[[], None]],
    *,
    warmup: int,
    samples: int,
    clock: Callable[[], int] = perf_counter_ns,
    cpu_clock: Callable[[], int] = process_time_ns,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Samples]:
    """Time every contender once per round, for `samples` rounds after `warmup` untimed ones.

    The order turns and reverses from round to round: over 2k rounds each of k contenders stands
    at each place equally often.

    Args:
        clock: Wall time in nanoseconds; read last before a step and first after it.
        cpu_clock: Processor time in nanoseconds.
        progress: Called with 1 after every round, warm-up included.

    Raises:
        RecipeError: `samples` is below `MINIMUM_SAMPLES`.
    """
    if samples < MINIMUM_SAMPLES:
        raise RecipeError(
            f"`{samples}` latency samples cannot carry a confidence interval",
            hint=f"take at least {MINIMUM_SAMPLES}",
        )
    field = {
        name: one if isinstance(one, Contender) else Contender(one)
        for name, one in contenders.items()
    }
    wall: dict[str, list[float]] = {name: [] for name in field}
    cpu: dict[str, list[float]] = {name: [] for name in field}
    for number in range(warmup + samples):
        for name in _order(list(field), number):
            wall_ns, cpu_ns = _time(field[name], clock, cpu_clock)
            if number >= warmup:
                wall[name].append(wall_ns / 1e6)
                cpu[name].append(cpu_ns / 1e6)
        if progress is not None:
            progress(1)
    return {name: Samples(np.array(wall[name]), np.array(cpu[name])) for name in field}


def _order(names: list[str], number: int) -> list[str]:
    start = number // 2 % len(names)
    turned = names[start:] + names[:start]
    return turned[::-1] if number % 2 else turned


def _time(
    contender: Contender, clock: Callable[[], int], cpu_clock: Callable[[], int]
) -> tuple[int, int]:
    contender.prepare()
    cpu_start = cpu_clock()
    start = clock()
    contender.step()
    elapsed = clock() - start
    return elapsed, cpu_clock() - cpu_start
