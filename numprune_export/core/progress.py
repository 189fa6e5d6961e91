"""Progress reporting: the pipeline calls an Observer; the command line displays the progress."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Observer(Protocol):
    """Receives the progress of each stage: begin, expect and advance (repeatedly), end.

    Stages can be nested, for example `prune.reload` in `prune`: calls between the inner begin and
    end belong to the inner stage. `advance` may be called from another thread.
    """

    def begin(self, stage: str) -> None: ...

    def expect(self, steps: int) -> None:
        """Add `steps` to the expected total; may be called several times."""
        ...

    def advance(self, steps: int) -> None: ...

    def end(self, stage: str, seconds: float, *, resumed: bool) -> None:
        """End a stage. `resumed`: an earlier run finished it, and nothing was computed now."""
        ...

    def warn(self, message: str) -> None:
        """Show the user a warning, a complete sentence, before the run ends."""
        ...


class Silent:
    """An observer that does nothing."""

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
    """Report a stage without a stage folder; if the body raises, `end` is not called."""
    start = time.perf_counter()
    observer.begin(stage)
    yield
    observer.end(stage, time.perf_counter() - start, resumed=False)


@dataclass
class Tally:
    """Progress of one stage. Times are seconds of a monotonic clock."""

    stage: str
    began: float
    expected: int = 0
    """Total steps; 0: unknown."""
    done: int = 0
    _first: tuple[float, int] | None = None
    _last: float | None = None

    def advance(self, steps: int, now: float) -> None:
        self.done += steps
        self._last = now
        if self._first is None:
            self._first = now, self.done

    @property
    def fraction(self) -> float | None:
        """From 0 to 1; None if the total is unknown."""
        return min(self.done / self.expected, 1.0) if self.expected else None

    def rate(self, now: float) -> float | None:
        """Steps per second since the first step ended, so that model loading does not count.

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
        """Remaining seconds at the rate up to the last step, less those since then; None if unknown,
        also when a step takes longer than all that is left should.

        >>> tally = Tally("score", began=0.0, expected=100)
        >>> tally.advance(40, now=40.0); tally.advance(40, now=80.0)
        >>> tally.remaining(now=95.0), tally.remaining(now=101.0)
        (5.0, None)
        """
        rate = None if self._last is None else self.rate(self._last)
        if self._last is None or rate is None or not self.expected or rate == 0:
            return None
        if (left := self.expected - self.done) <= 0:
            return 0.0
        seconds = left / rate - (now - self._last)
        return seconds if seconds >= 0 else None


class Tallies:
    """Tallies of the running stages, outermost first; steps count for the innermost."""

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


class CallbackObserver:
    """Calls a function with the name of the running stage and its fraction done, from 0 to 1."""

    def __init__(self, call: Callable[[str, float | None], None]) -> None:
        self._call, self._tallies = call, Tallies()

    def begin(self, stage: str) -> None:
        self._tallies.begin(stage, time.perf_counter())
        self._call(stage, 0.0)

    def expect(self, steps: int) -> None:
        self._tallies.expect(steps)

    def advance(self, steps: int) -> None:
        self._tallies.advance(steps, time.perf_counter())
        if (tally := self._tallies.at_work) is not None:
            self._call(tally.stage, tally.fraction)

    def end(self, stage: str, seconds: float, *, resumed: bool) -> None:
        self._tallies.end()
        self._call(stage, 1.0)

    def warn(self, message: str) -> None:
        warnings.warn(message, stacklevel=2)


@contextmanager
def growing(
    folder: Path, expected_bytes: int, observer: Observer, *, interval_s: float = 0.5
) -> Iterator[None]:
    """Context manager: report progress by the size of the files that the body writes.

    One step is 1 MiB. Steps never exceed `expected_bytes`; the rest is reported on exit.

    Args:
        folder: Folder whose files are counted.
        expected_bytes: Expected total size.
        observer: Receives the steps.
        interval_s: Seconds between two looks at the folder.
    """
    expected = max(expected_bytes >> 20, 1)
    observer.expect(expected)
    finished, reported = threading.Event(), 0

    def look() -> None:
        nonlocal reported
        while not finished.wait(interval_s):
            now = min(_size(folder) >> 20, expected)
            if now > reported:
                observer.advance(now - reported)
                reported = now

    thread = threading.Thread(target=look, name="growing", daemon=True)
    thread.start()
    try:
        yield
        finished.set()
        thread.join()
        observer.advance(expected - reported)
    finally:
        finished.set()
        thread.join()


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # renamed or removed after it was listed
            continue
    return total
