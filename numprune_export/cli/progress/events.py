"""Events of `run --json` and `sweep --json`, one JSON object per line: docs/reference/events.md."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import Annotated, Literal, TextIO

from pydantic import AwareDatetime, Field, TypeAdapter

from numprune_export.core.progress import Tallies
from numprune_export.core.settings import Strict

PROGRESS_EVERY_S = 1.0
ALIVE_EVERY_S = 30.0
"""Interval of progress events for a stage that makes no step."""


class _Event(Strict):
    format: Literal[1] = 1
    """Version of this schema; new keys and event kinds do not change it."""
    at: AwareDatetime = Field(default_factory=lambda: datetime.now(timezone.utc))


class Start(_Event):
    """The first event."""

    event: Literal["start"] = "start"
    version: str
    """Version of numprune-export."""
    recipe: str
    folder: str
    """Folder of the run or sweep, as given."""
    points: tuple[str, ...] | None = None
    """Names of a sweep's points, in order; null: a run."""


class Begin(_Event):
    event: Literal["begin"] = "begin"
    stage: str
    point: str | None = None
    """Point of a sweep that the stage belongs to; null: a run."""


class Progress(_Event):
    """At most once per second; every 30 s if a stage makes no step."""

    event: Literal["progress"] = "progress"
    stage: str
    done: int
    expected: int | None
    """Steps of the whole stage; null: unknown."""
    rate: float | None
    """Steps per second."""
    elapsed_s: float
    remaining_s: float | None
    point: str | None = None


class End(_Event):
    event: Literal["end"] = "end"
    stage: str
    seconds: float
    """Wall time of the stage, in this run or in the earlier one that finished it."""
    resumed: bool
    """True if an earlier run had finished the stage."""
    point: str | None = None


class Warned(_Event):
    event: Literal["warning"] = "warning"
    message: str
    point: str | None = None


class Reported(_Event):
    """The last event of a successful run."""

    event: Literal["report"] = "report"
    path: str
    """Path of report.json."""
    markdown: str
    html: str
    summary: str


class Reason(Strict):
    """Cause of a failed point, or a further mistake in a recipe."""

    message: str
    hint: str
    exit_code: int


class PointEnded(_Event):
    """A point of a sweep has finished or failed."""

    event: Literal["point"] = "point"
    point: str
    ended: int
    """Number of ended points, including this one."""
    path: str | None = None
    """Path of its report.json; null: the point failed."""
    markdown: str | None = None
    html: str | None = None
    summary: str | None = None
    error: Reason | None = None


class Swept(_Event):
    """The last event of a sweep, even if points failed."""

    event: Literal["sweep"] = "sweep"
    path: str
    """Path of sweep.json."""
    markdown: str
    done: int
    failed: int


class Failed(_Event):
    """The last event of a failed run or sweep."""

    event: Literal["error"] = "error"
    kind: str
    """Class name of the error; `Interrupted` after Ctrl-C."""
    message: str
    hint: str | None
    exit_code: int
    resume: str | None
    """Command that resumes after the last finished stage."""
    further: tuple[Reason, ...] = ()
    """Further mistakes in the same recipe and options."""


Event = Annotated[
    Start | Begin | Progress | End | Warned | Reported | PointEnded | Swept | Failed,
    Field(discriminator="event"),
]
ANY: TypeAdapter[Event] = TypeAdapter(Event)


class Events:
    """Observer that writes events, with the point of a sweep if given."""

    def __init__(
        self,
        stream: TextIO,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
        point: str | None = None,
    ) -> None:
        self._stream: TextIO | None = stream
        self._quiet, self._clock, self._point = quiet, clock, point
        self._lock = threading.Lock()
        self._tallies = Tallies()
        self._last_progress = (0.0, 0)

    def write(self, event: _Event) -> None:
        """Write and flush one line. After the reader closes the pipe, events are dropped."""
        with self._lock:
            if self._stream is None:
                return
            try:
                self._stream.write(event.model_dump_json() + "\n")
                self._stream.flush()
            except BrokenPipeError:
                self._stream = None

    def begin(self, stage: str) -> None:
        self.write(Begin(stage=stage, point=self._point))
        now = self._clock()
        self._tallies.begin(stage, now)
        self._last_progress = now, 0

    def expect(self, steps: int) -> None:
        self._tallies.expect(steps)

    def advance(self, steps: int) -> None:
        self._tallies.advance(steps, self._clock())

    def beat(self) -> None:
        """Write a progress event if one is due; called from another thread."""
        tally, now = self._tallies.at_work, self._clock()
        if tally is None or self._quiet:
            return
        at, done = self._last_progress
        if now - at >= (PROGRESS_EVERY_S if tally.done > done else ALIVE_EVERY_S):
            self._last_progress = now, tally.done
            self.write(
                Progress(
                    stage=tally.stage,
                    done=tally.done,
                    expected=tally.expected or None,
                    rate=tally.rate(now),
                    elapsed_s=now - tally.began,
                    remaining_s=tally.remaining(now),
                    point=self._point,
                )
            )

    def end(self, stage: str, seconds: float, *, resumed: bool) -> None:
        self._tallies.end()
        outer = self._tallies.at_work
        self._last_progress = self._clock(), outer.done if outer else 0
        self.write(End(stage=stage, seconds=seconds, resumed=resumed, point=self._point))

    def warn(self, message: str) -> None:
        self.write(Warned(message=message, point=self._point))


@contextmanager
def events_only() -> Iterator[TextIO]:
    """Yield the real stdout for events; all other output, also of native code, goes to stderr."""
    sys.stdout.flush()
    descriptor = sys.stdout.fileno()
    kept = os.dup(descriptor)
    os.dup2(sys.stderr.fileno(), descriptor)
    stream = open(kept, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    try:
        yield stream
    finally:
        with suppress(BrokenPipeError):  # the reader has closed the pipe
            stream.close()
        sys.stdout.flush()
        os.dup2(kept, descriptor)
        os.close(kept)
