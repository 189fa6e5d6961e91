"""Progress on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from numprune_export.progress import Observer, Silent


@contextmanager
def observer(*, quiet: bool) -> Iterator[Observer]:
    """The observer that suits where stderr goes."""
    if quiet:
        yield Silent()
    elif sys.stderr.isatty():
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            yield Bars(progress)
    else:
        yield Lines()


class Bars:
    """One live bar per stage; finished stages stay as lines."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def begin(self, stage: str) -> None:
        self._task = self._progress.add_task(stage, total=None)

    def expect(self, steps: int) -> None:
        if self._task is not None:
            self._progress.update(self._task, total=steps)

    def advance(self, steps: int) -> None:
        if self._task is not None:
            self._progress.advance(self._task, steps)

    def end(self, stage: str, seconds: float, *, resumed: bool) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        self._progress.console.print(_line(stage, seconds, resumed), highlight=False)


class Lines:
    """One line when a stage begins and one when it ends: for logs."""

    def begin(self, stage: str) -> None:
        typer.echo(f"  {stage} ...", err=True)

    def expect(self, steps: int) -> None:
        return

    def advance(self, steps: int) -> None:
        return

    def end(self, stage: str, seconds: float, *, resumed: bool) -> None:
        typer.echo(_line(stage, seconds, resumed), err=True)


def _line(stage: str, seconds: float, resumed: bool) -> str:
    return f"= {stage:<28} as before" if resumed else f"✓ {stage:<28} {seconds:7.1f} s"
