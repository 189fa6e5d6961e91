"""What `run --json` and `sweep --json` write to stdout: one JSON object a line; see docs/reference/events.md."""

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
"""A stage that makes no step is told of this often."""


class _Event(Strict):
    format: Literal[1] = 1
    """Version of this schema; new keys and new kinds of event do not change it."""
    at: AwareDatetime = Field(default_factory=lambda: datetime.now(timezone.utc))


class Start(_Event):
    """The first line."""

    event: Literal["start"] = "start"
    version: str
    """Of numprune-export."""
    recipe: str
    folder: str
    """The run's or the sweep's, as given."""
    points: tuple[str, ...] | None = None
    """Of a sweep: their names, in order."""


class Begin(_Event):
    event: Literal["begin"] = "begin"
    stage: str
    point: str | None = None
    """Of a sweep: which one the stage belongs to."""


class Progress(_Event):
    """At most once a second; every 30 s where a stage makes no step."""

    event: Literal["progress"] = "progress"
    stage: str
    done: int
    expected: int | None
    """Steps of the whole stage; null: it has not said."""
    rate: float | None
    """Steps per second."""
    elapsed_s: float
    remaining_s: float | None
    point: str | None = None


class End(_Event):
    event: Literal["end"] = "end"
    stage: str
    seconds: float
    """Wall time it took when it was made, this time or an earlier one."""
    resumed: bool
    """An earlier run had finished it; nothing was done."""
    point: str | None = None


class Warned(_Event):
    event: Literal["warning"] = "warning"
    message: str
    point: str | None = None


class Reported(_Event):
    """The last line of a run that went well."""

    event: Literal["report"] = "report"
    path: str
    """report.json."""
    markdown: str
    html: str
    summary: str


class Reason(Strict):
    """One mistake: why a point of a sweep failed, or what else is wrong with a recipe."""

    message: str
    hint: str
    exit_code: int


class PointEnded(_Event):
    """A point of a sweep is done or has failed."""

    event: Literal["point"] = "point"
    point: str
    ended: int
    """How many have, this one included."""
    path: str | None = None
    """Its report.json; null: it failed."""
    markdown: str | None = None
    html: str | None = None
    summary: str | None = None
    error: Reason | None = None


class Swept(_Event):
    """The last line of a sweep, even if points failed."""

    event: Literal["sweep"] = "sweep"
    path: str
    """sweep.json."""
    markdown: str
    done: int
    failed: int


class Failed(_Event):
    """The last line of a run or a sweep that did not go well."""

    event: Literal["error"] = "error"
    kind: str
    """Class of the error; `Interrupted` after Ctrl-C."""
    message: str
    hint: str | None
    exit_code: int
    resume: str | None
    """The command that goes on from the last whole stage."""
    further: tuple[Reason, ...] = ()
    """Other mistakes of the same recipe and options."""


Event = Annotated[
    Start | Begin | Progress | End | Warned | Reported | PointEnded | Swept | Failed,
    Field(discriminator="event"),
]
ANY: TypeAdapter[Event] = TypeAdapter(Event)


class Events:
    """An Observer that writes events, those of one point in a sweep."""

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
        self._told = (0.0, 0)

    def write(self, event: _Event) -> None:
        """One line, at once. A reader that went away ends the telling, not the run."""
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
        self._told = now, 0

    def expect(self, steps: int) -> None:
        self._tallies.expect(steps)

    def advance(self, steps: int) -> None:
        self._tallies.advance(steps, self._clock())

    def beat(self) -> None:
        """Called often, by another thread."""
        tally, now = self._tallies.at_work, self._clock()
        if tally is None or self._quiet:
            return
        at, done = self._told
        if now - at >= (PROGRESS_EVERY_S if tally.done > done else ALIVE_EVERY_S):
            self._told = now, tally.done
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
        self._told = self._clock(), outer.done if outer else 0
        self.write(End(stage=stage, seconds=seconds, resumed=resumed, point=self._point))

    def warn(self, message: str) -> None:
        self.write(Warned(message=message, point=self._point))


@contextmanager
def events_only() -> Iterator[TextIO]:
    """The real stdout for events; whatever else writes there, native code too, goes to stderr."""
    sys.stdout.flush()
    descriptor = sys.stdout.fileno()
    kept = os.dup(descriptor)
    os.dup2(sys.stderr.fileno(), descriptor)
    stream = open(kept, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    try:
        yield stream
    finally:
        with suppress(BrokenPipeError):  # what a reader that went away has not read
            stream.close()
        sys.stdout.flush()
        os.dup2(kept, descriptor)
        os.close(kept)
