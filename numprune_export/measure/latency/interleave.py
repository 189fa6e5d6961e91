"""The timing protocol: contenders are interleaved, so that drift affects all of them equally."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns, process_time_ns
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from numprune_export.core.errors import RecipeError

MINIMUM_SAMPLES = 5
"""A bootstrap interval of fewer rounds would be narrow whatever the noise."""


Key = TypeVar("Key")


def _nothing() -> None: ...


@dataclass(frozen=True)
class Contender:
    """A timed operation. `step` returns only when its work is done and the device is idle."""

    step: Callable[[], None]
    prepare: Callable[[], None] = _nothing
    """Sets up the state that `step` starts from; runs before every step, untimed."""


@dataclass(frozen=True)
class Samples:
    """Times of one contender in round order, (rounds,) each; the same index is the same round."""

    wall_ms: NDArray[np.float64]
    cpu_ms: NDArray[np.float64]
    """Of all threads of this process: above wall time if several threads work, below it if the
    process was suspended."""


@dataclass(frozen=True)
class Clocks:
    """Sources of time, in nanoseconds."""

    wall: Callable[[], int] = perf_counter_ns
    """Read last before a step and first after it."""
    cpu: Callable[[], int] = process_time_ns
    """Processor time of all threads."""


def _no_progress(_rounds: int) -> None: ...


@dataclass(frozen=True)
class Protocol:
    """Number of rounds and sessions, clocks and progress callback of a measurement."""

    warmup: int
    """Untimed rounds, per session."""
    samples: int
    """Minimum of timed rounds over all sessions; each session has `timed_rounds`."""
    sessions: int = 1
    """How many times the models are opened; the rounds are split among the sessions."""
    seed: int = 0
    """Of the bootstrap."""
    clocks: Clocks = Clocks()
    progress: Callable[[int], None] = _no_progress
    """Called with the round's steps after every round, warm-up included."""

    @property
    def timed_rounds(self) -> int:
        """Per session, so that all sessions together have at least `samples`."""
        return -(-self.samples // self.sessions)

    @property
    def rounds(self) -> int:
        """Per timing, warm-up included."""
        return self.sessions * (self.warmup + self.timed_rounds)


def in_sessions(
    fields: Mapping[Key, Mapping[str, Contender]],
    protocol: Protocol,
    reopen: Iterable[Callable[[], None]] = (),
    work: Mapping[Key, int] = MappingProxyType({}),
) -> dict[Key, dict[str, Samples]]:
    """Time several groups of contenders, session by session.

    The speed of a loaded model depends by a few percent on the memory addresses of its weights.
    They are fixed until the model is loaded again, so more rounds do not show this variation.

    In each round every contender of a group runs once. The order rotates and reverses from round to
    round: over 2k rounds each of k contenders has each position equally often.

    Args:
        fields: The contenders of each timing, such as a phase or a shape.
        protocol: Rounds, sessions and clocks.
        reopen: Callbacks that reload models; called between sessions.
        work: Steps of progress per round of a timing; 1 if it is not named.

    Returns:
        Samples in round order, session by session.

    Raises:
        RecipeError: there are fewer samples than `MINIMUM_SAMPLES`.
    """
    if protocol.samples < MINIMUM_SAMPLES:
        raise RecipeError(
            f"`{protocol.samples}` latency samples are too few for a confidence interval",
            hint=f"take at least {MINIMUM_SAMPLES}",
        )
    sessions: dict[Key, list[dict[str, Samples]]] = {key: [] for key in fields}
    for session in range(protocol.sessions):
        for reload in reopen if session else ():
            reload()
        for key, contenders in fields.items():
            first = session * protocol.timed_rounds
            sessions[key].append(_session(contenders, protocol, first, work.get(key, 1)))
    return {key: _joined(parts) for key, parts in sessions.items()}


def _joined(parts: Sequence[Mapping[str, Samples]]) -> dict[str, Samples]:
    return {
        name: Samples(
            np.concatenate([part[name].wall_ms for part in parts]),
            np.concatenate([part[name].cpu_ms for part in parts]),
        )
        for name in parts[0]
    }


def _session(
    contenders: Mapping[str, Contender], protocol: Protocol, first: int, work: int
) -> dict[str, Samples]:
    """Time the rounds of one session; `first` is the number of its first round, `work` its
    steps of progress per round."""
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(protocol.warmup + protocol.timed_rounds):
        for name in _order(list(contenders), first + number):
            wall_ns, cpu_ns = _time(contenders[name], protocol.clocks)
            if number >= protocol.warmup:
                wall[name].append(wall_ns / 1e6)
                cpu[name].append(cpu_ns / 1e6)
        protocol.progress(work)
    return {name: Samples(np.array(wall[name]), np.array(cpu[name])) for name in contenders}


def _order(names: list[str], number: int) -> list[str]:
    start = number // 2 % len(names)
    rotated = names[start:] + names[:start]
    return rotated[::-1] if number % 2 else rotated


def _time(contender: Contender, clocks: Clocks) -> tuple[int, int]:
    contender.prepare()
    cpu_start = clocks.cpu()
    start = clocks.wall()
    contender.step()
    elapsed = clocks.wall() - start
    return elapsed, clocks.cpu() - cpu_start
