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


@dataclass(frozen=True)
class Clocks:
    """What times are read from, in nanoseconds."""

    wall: Callable[[], int] = perf_counter_ns
    """Read last before a step and first after it."""
    cpu: Callable[[], int] = process_time_ns
    """Processor time of all threads."""


def _untold(_rounds: int) -> None: ...


@dataclass(frozen=True)
class Protocol:
    """How often everything is timed, by which clocks, and who is told of progress."""

    warmup: int
    """Untimed rounds, per session."""
    samples: int
    """Timed rounds in all, at least: each session has `timed_rounds`."""
    sessions: int = 1
    """Times that models are opened anew, the rounds shared among them."""
    seed: int = 0
    """Of the bootstrap."""
    clocks: Clocks = Clocks()
    progress: Callable[[int], None] = _untold
    """Called with 1 after every round, warm-up included."""

    @property
    def timed_rounds(self) -> int:
        """Of each session, so that all together are at least `samples`."""
        return -(-self.samples // self.sessions)

    @property
    def rounds(self) -> int:
        """Of each timing, warm-up included."""
        return self.sessions * (self.warmup + self.timed_rounds)


def in_sessions(
    fields: Mapping[Key, Mapping[str, Contender]],
    protocol: Protocol,
    reopen: Iterable[Callable[[], None]] = (),
) -> dict[Key, dict[str, Samples]]:
    """Time several fields of contenders, session after session.

    How fast a loaded model runs depends by some percent on where its weights came to lie in memory.
    That is as it is until the model is loaded again, and no number of rounds shows it.

    In each round every contender of a field runs once. The order turns and reverses from round to
    round: over 2k rounds each of k contenders stands at each place equally often.

    Args:
        fields: The contenders of each thing that is timed, such as a phase or a shape.
        protocol: How often, and by which clocks.
        reopen: What loads models anew; called between sessions.

    Returns:
        Rounds in order, session after session.

    Raises:
        RecipeError: the samples are fewer than `MINIMUM_SAMPLES`.
    """
    if protocol.samples < MINIMUM_SAMPLES:
        raise RecipeError(
            f"`{protocol.samples}` latency samples cannot carry a confidence interval",
            hint=f"take at least {MINIMUM_SAMPLES}",
        )
    found: dict[Key, list[dict[str, Samples]]] = {key: [] for key in fields}
    for session in range(protocol.sessions):
        for open_anew in reopen if session else ():
            open_anew()
        for key, contenders in fields.items():
            found[key].append(_session(contenders, protocol, session * protocol.timed_rounds))
    return {key: _joined(parts) for key, parts in found.items()}


def _joined(parts: Sequence[Mapping[str, Samples]]) -> dict[str, Samples]:
    return {
        name: Samples(
            np.concatenate([one[name].wall_ms for one in parts]),
            np.concatenate([one[name].cpu_ms for one in parts]),
        )
        for name in parts[0]
    }


def _session(
    contenders: Mapping[str, Contender], protocol: Protocol, first: int
) -> dict[str, Samples]:
    """One session's rounds; `first` is the number of the first one, for the order of turns."""
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(protocol.warmup + protocol.timed_rounds):
        for name in _order(list(contenders), first + number):
            wall_ns, cpu_ns = _time(contenders[name], protocol.clocks)
            if number >= protocol.warmup:
                wall[name].append(wall_ns / 1e6)
                cpu[name].append(cpu_ns / 1e6)
        protocol.progress(1)
    return {name: Samples(np.array(wall[name]), np.array(cpu[name])) for name in contenders}


def _order(names: list[str], number: int) -> list[str]:
    start = number // 2 % len(names)
    turned = names[start:] + names[:start]
    return turned[::-1] if number % 2 else turned


def _time(contender: Contender, clocks: Clocks) -> tuple[int, int]:
    contender.prepare()
    cpu_start = clocks.cpu()
    start = clocks.wall()
    contender.step()
    elapsed = clocks.wall() - start
    return elapsed, clocks.cpu() - cpu_start
