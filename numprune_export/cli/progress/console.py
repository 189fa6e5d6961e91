"""Progress on stderr: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from numprune_export.cli.progress.heartbeat import heartbeat
from numprune_export.core.progress import Observer, Silent, Tallies, Tally

LINE_EVERY_S = 30.0
"""Seconds between two progress lines of a stage."""


@contextmanager
def observer(*, quiet: bool) -> Iterator[Observer]:
    """The observer for stderr: bars on a terminal, lines otherwise, silent if quiet."""
    if quiet:
        yield Silent()
    elif sys.stderr.isatty():
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            RateColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            yield Bars(progress)
    else:
        lines = Lines()
        with heartbeat(lines.beat):
            yield lines


class RateColumn(ProgressColumn):
    """Recent steps per second."""

    def render(self, task: Task) -> Text:
        return Text(
            "" if task.speed is None else f"{task.speed:.3g}/s", style="progress.data.speed"
        )


class Bars:
    """One live bar per stage; finished stages remain as lines."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._open: list[tuple[TaskID, int]] = []
        """Task and expected steps; the last one is active."""

    def begin(self, stage: str) -> None:
        self._open.append((self._progress.add_task(stage, total=None), 0))

    def expect(self, steps: int) -> None:
        if self._open:
            task, expected = self._open.pop()
            self._open.append((task, expected + steps))
            self._progress.update(task, total=expected + steps)

    def advance(self, steps: int) -> None:
        if self._open:
            self._progress.advance(self._open[-1][0], steps)

    def end(self, stage: str, seconds: float, *, resumed: bool) -> None:
        if self._open:
            self._progress.remove_task(self._open.pop()[0])
        self._progress.console.print(_line(stage, seconds, resumed), highlight=False)

    def warn(self, message: str) -> None:
        self._progress.console.print(f"warning: {message}", highlight=False, markup=False)


class Lines:
    """Progress for logs: a line as a stage begins and ends, and periodic lines in between."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tallies = Tallies()
        self._last_line_at = 0.0

    def begin(self, stage: str) -> None:
        self._last_line_at = self._clock()
        self._tallies.begin(stage, self._last_line_at)
        typer.echo(f"  {stage} ...", err=True)

    def expect(self, steps: int) -> None:
        self._tallies.expect(steps)

    def advance(self, steps: int) -> None:
        self._tallies.advance(steps, self._clock())

    def beat(self) -> None:
        """Print a periodic line even if a stage makes no step; called from another thread."""
        tally, now = self._tallies.at_work, self._clock()
        if tally is not None and now - self._last_line_at >= LINE_EVERY_S:
            self._last_line_at = now
            typer.echo(f"  {tally.stage}: {state(tally, now)}", err=True)

    def end(self, stage: str, seconds: float, *, resumed: bool) -> None:
        self._tallies.end()
        typer.echo(_line(stage, seconds, resumed), err=True)

    def warn(self, message: str) -> None:
        typer.echo(f"warning: {message}", err=True)


def state(tally: Tally, now: float) -> str:
    """Progress of a stage as text.

    >>> tally = Tally("calibrate", began=0.0, expected=200)
    >>> state(tally, 30.0)
    'at work for 30 s'
    >>> tally.advance(10, 10.0); tally.advance(40, 30.0); state(tally, 30.0)
    '25 % (50 of 200), 2/s, 1 min 15 s left'
    """
    fraction, rate, left = tally.fraction, tally.rate(now), tally.remaining(now)
    if fraction is None or rate is None:
        return f"at work for {duration(now - tally.began)}"
    done = f"{100 * fraction:.0f} % ({tally.done:,} of {tally.expected:,})"
    if left is None:
        return f"{done}, at work for {duration(now - tally.began)}"
    return f"{done}, {rate:.3g}/s, {duration(left)} left"


def _line(stage: str, seconds: float, resumed: bool) -> str:
    return f"= {stage:<28} as before" if resumed else f"✓ {stage:<28} {seconds:7.1f} s"


def duration(seconds: float) -> str:
    """Format a duration.

    >>> duration(9.4), duration(75), duration(7325)
    ('9 s', '1 min 15 s', '2 h 02 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
