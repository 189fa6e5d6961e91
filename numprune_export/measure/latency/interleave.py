"""The timing protocol: contenders take turns, so that whatever drifts hits all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns, process_time_ns
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from numprune_export.core.errors import RecipeError

MINIMUM_SAMPLES = 5
"""Fewer rounds cannot carry a bootstrap interval: it would be narrow whatever the noise."""


Key = TypeVar("Key")


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


def rounds_of(samples: int, sessions: int) -> int:
    """Rounds of each session, so that all together are at least `samples`."""
    return -(-samples // sessions)


def in_sessions(
    fields: Mapping[Key, Mapping[str, Contender]],
    *,
    sessions: int,
    warmup: int,
    samples: int,
    reopen: Iterable[Callable[[], None]] = (),
    clock: Callable[[], int] = perf_counter_ns,
    cpu_clock: Callable[[], int] = process_time_ns,
    progress: Callable[[int], None] | None = None,
    work: Mapping[Key, int] | None = None,
) -> dict[Key, dict[str, Samples]]:
    """Time several fields of contenders, each by `rounds_of(samples, sessions)` rounds a session.

    How fast a loaded model runs depends by some percent on where its weights came to lie in memory.
    That is as it is until the model is loaded again, and no number of rounds shows it.

    Args:
        fields: The contenders of each thing that is timed, such as a phase or a shape.
        warmup: Untimed rounds, per session.
        samples: At least as many rounds in all.
        reopen: What loads models anew; called between sessions.
        progress: Called after every round, with its work.
        work: Of a round of each thing that is timed; None: 1.

    Returns:
        Rounds in order, session after session.

    Raises:
        RecipeError: `samples` is below `MINIMUM_SAMPLES`.
    """
    _enough(samples)
    each = rounds_of(samples, sessions)
    found: dict[Key, list[dict[str, Samples]]] = {key: [] for key in fields}
    for session in range(sessions):
        for open_anew in reopen if session else ():
            open_anew()
        for key, contenders in fields.items():
            tick = _weighted(progress, 1 if work is None else work[key])
            rounds = _rounds(contenders, warmup, each, session * each, clock, cpu_clock, tick)
            found[key].append(rounds)
    return {key: _joined(parts) for key, parts in found.items()}


def _weighted(progress: Callable[[int], None] | None, work: int) -> Callable[[int], None] | None:
    return None if progress is None else lambda rounds: progress(rounds * work)


def _joined(parts: Sequence[Mapping[str, Samples]]) -> dict[str, Samples]:
    return {
        name: Samples(
            np.concatenate([one[name].wall_ms for one in parts]),
            np.concatenate([one[name].cpu_ms for one in parts]),
        )
        for name in parts[0]
    }


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
    _enough(samples)
    return _rounds(contenders, warmup, samples, 0, clock, cpu_clock, progress)


def _enough(samples: int) -> None:
    if samples < MINIMUM_SAMPLES:
        raise RecipeError(
            f"`{samples}` latency samples cannot carry a confidence interval",
            hint=f"take at least {MINIMUM_SAMPLES}",
        )


def _rounds(
    contenders: Mapping[str, Contender | Callable[[], None]],
    warmup: int,
    samples: int,
    first: int,
    clock: Callable[[], int],
    cpu_clock: Callable[[], int],
    progress: Callable[[int], None] | None,
) -> dict[str, Samples]:
    """Some rounds; `first` is the number of the first one that counts, for the order of turns."""
    field = {
        name: one if isinstance(one, Contender) else Contender(one)
        for name, one in contenders.items()
    }
    wall: dict[str, list[float]] = {name: [] for name in field}
    cpu: dict[str, list[float]] = {name: [] for name in field}
    for number in range(warmup + samples):
        for name in _order(list(field), first + number):
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
