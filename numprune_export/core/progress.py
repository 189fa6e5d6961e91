"""How a long run shows itself. The pipeline talks to an Observer; the command line draws it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Observer(Protocol):
    """Told what happens, in order: begin, expect, advance any number of times, end; by stage.

    A stage may hold another, such as `prune` holds `prune.reload`: what is told between that one's
    begin and end is its own. `advance` may come from another thread than the rest.
    """

    def begin(self, stage: str) -> None: ...

    def expect(self, steps: int) -> None:
        """This many more steps will follow; a stage says so each time it learns of some."""
        ...

    def advance(self, steps: int) -> None: ...

    def end(self, stage: str, seconds: float, *, resumed: bool) -> None:
        """`resumed`: nothing was done, an earlier run had finished this stage."""
        ...

    def warn(self, message: str) -> None:
        """What the user should know before the work is done, in a whole sentence."""
        ...


class Silent:
    """Shows nothing."""

    def begin(self, stage: str) -> None:
        return

    def expect(self, steps: int) -> None:
        return

    def advance(self, steps: int) -> None:
        return

    def end(self, stage: str, seconds: float, *, resumed: bool) -> None:
        return

    def warn(self, message: str) -> None:
        return


@contextmanager
def shown(observer: Observer, stage: str) -> Iterator[None]:
    """Tell of a piece of work that leaves no folder of its own; one that fails does not end."""
    start = time.perf_counter()
    observer.begin(stage)
    yield
    observer.end(stage, time.perf_counter() - start, resumed=False)


@dataclass
class Tally:
    """How far a stage is. Times are seconds of any steady clock."""

    stage: str
    began: float
    expected: int = 0
    """0: the stage has not said."""
    done: int = 0
    _first: tuple[float, int] | None = None

    def advance(self, steps: int, now: float) -> None:
        self.done += steps
        if self._first is None:
            self._first = now, self.done

    @property
    def fraction(self) -> float | None:
        """From 0 to 1, or None where no end is known."""
        return min(self.done / self.expected, 1.0) if self.expected else None

    def rate(self, now: float) -> float | None:
        """Steps per second since the first one was done, so that loading a model does not count.

        >>> tally = Tally("calibrate", began=0.0, expected=100)
        >>> tally.advance(10, now=60.0); tally.advance(10, now=65.0); tally.rate(now=65.0)
        2.0
        >>> tally.remaining(now=65.0)
        40.0
        """
        if self._first is None:
            return None
        at, done = self._first
        if self.done > done and now > at:
            return (self.done - done) / (now - at)
        return self.done / (now - self.began) if now > self.began else None

    def remaining(self, now: float) -> float | None:
        """Seconds to the end at this rate."""
        rate = self.rate(now)
        if rate is None or not self.expected or rate == 0:
            return None
        return max(self.expected - self.done, 0) / rate


class Tallies:
    """Tallies of the stages that have begun; steps belong to the last of them."""

    def __init__(self) -> None:
        self._open: list[Tally] = []

    @property
    def at_work(self) -> Tally | None:
        return self._open[-1] if self._open else None

    def begin(self, stage: str, now: float) -> None:
        self._open.append(Tally(stage, now))

    def expect(self, steps: int) -> None:
        if self._open:
            self._open[-1].expected += steps

    def advance(self, steps: int, now: float) -> None:
        if self._open:
            self._open[-1].advance(steps, now)

    def end(self) -> None:
        if self._open:
            self._open.pop()


@contextmanager
def growing(
    folder: Path, expected_bytes: int, observer: Observer, *, interval_s: float = 0.5
) -> Iterator[None]:
    """Show work that tells nothing of itself by the bytes of the files that it writes.

    A step is a MiB. What is written beyond `expected_bytes` is not counted; what is missing at the
    end is.
    """
    expected = max(expected_bytes >> 20, 1)
    observer.expect(expected)
    finished, told = threading.Event(), 0

    def look() -> None:
        nonlocal told
        while not finished.wait(interval_s):
            now = min(_size(folder) >> 20, expected)
            if now > told:
                observer.advance(now - told)
                told = now

    thread = threading.Thread(target=look, name="growing", daemon=True)
    thread.start()
    try:
        yield
        finished.set()
        thread.join()
        observer.advance(expected - told)
    finally:
        finished.set()
        thread.join()


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # renamed or removed since it was listed
            continue
    return total
