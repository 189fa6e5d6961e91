"""Run a sweep with console output or events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import typer

from numprune_export.cli.progress.console import observer
from numprune_export.cli.progress.events import Events, Start, Swept, events_only
from numprune_export.cli.progress.failures import failure_events
from numprune_export.cli.progress.interrupts import held_back
from numprune_export.cli.progress.sweep_events import PointTeller, PointWatch
from numprune_export.core.errors import RecipeError
from numprune_export.core.progress import Observer
from numprune_export.core.run_folder import REPORT
from numprune_export.core.version import __version__
from numprune_export.report.pages import html_of, markdown_of
from numprune_export.report.schema import Report
from numprune_export.workflows.sweep import page, points, record
from numprune_export.workflows.sweep.local import Local
from numprune_export.workflows.sweep.record import Sweep
from numprune_export.workflows.sweep.summary import POINTS
from numprune_export.workflows.sweep.work import Executor, Failure


@dataclass(frozen=True)
class Given:
    """Arguments of the `sweep` command."""

    recipe: str
    keep: str
    score: str | None
    method: str | None
    query_heads: str | None
    targets: tuple[str, ...]
    assignments: tuple[str, ...]
    out: Path | None

    def points(self) -> tuple[str, tuple[points.Point, ...]]:
        """Name of the recipe, and the points."""
        axes = points.Axes(
            points.keeps(self.keep),
            points.words("--score", self.score),
            points.words("--method", self.method),
            points.words("--query-heads", self.query_heads),
        )
        return points.points(self.recipe, axes, self.assignments, self.targets)

    def folder(self, name: str) -> Path:
        return self.out or Path("runs") / f"{name}-sweep"


@dataclass(frozen=True)
class Place:
    """Executor options of the `sweep` command."""

    ray: str | None
    jobs: int | None

    def executor(self, *, quiet: bool) -> Executor:
        if self.ray is not None:
            with held_back():
                from numprune_export.workflows.sweep.cluster import Cluster

            return Cluster(self.ray, partial(_drawn, quiet=quiet), most=self.jobs, quiet=quiet)
        if self.jobs is not None and self.jobs > 1:
            raise RecipeError(
                f"`--jobs {self.jobs}` would time {self.jobs} points on one machine at once",
                hint="omit `--jobs`, or give a Ray cluster with `--ray`",
            )
        return Local()


def with_console(given: Given, place: Place, *, quiet: bool) -> bool:
    """Sweep with progress on stderr and the table on stdout; returns whether a point failed."""
    executor = place.executor(quiet=quiet)
    name, runs = given.points()
    folder = given.folder(name)
    result = _sweep()(
        name,
        runs,
        folder=folder,
        executor=executor,
        watch=partial(_drawn, quiet=quiet),
        tell=_quiet if quiet else _Teller(len(runs)),
    )
    _show(result, folder)
    return bool(_failed(result))


def with_events(given: Given, place: Place, *, quiet: bool) -> bool:
    """Sweep with only events on stdout; returns whether a point failed."""
    with events_only() as stream:
        events = Events(stream, quiet=quiet)
        with failure_events(events):
            executor = place.executor(quiet=quiet)
            name, runs = given.points()
            folder = given.folder(name)
            names = tuple(run.name for run in runs)
            start = Start(version=__version__, recipe=name, folder=str(folder), points=names)
            events.write(start)
            result = _sweep()(
                name,
                runs,
                folder=folder,
                executor=executor,
                watch=PointWatch(stream, quiet=quiet),
                tell=PointTeller(events, folder),
            )
            events.write(_swept(result, folder))
    return bool(_failed(result))


def _sweep() -> Callable[..., Sweep]:
    """Import late: PyTorch takes seconds to import, and mistakes are reported without it."""
    with held_back():
        from numprune_export.workflows.sweep.run import sweep
    return sweep


def _swept(result: Sweep, folder: Path) -> Swept:
    failed = _failed(result)
    return Swept(
        path=str(folder / record.NAME),
        markdown=str(folder / page.NAME),
        done=len(result.points) - failed,
        failed=failed,
    )


def _failed(result: Sweep) -> int:
    return sum(point.status != "done" for point in result.points)


@contextmanager
def _drawn(point: str, *, quiet: bool) -> Iterator[Observer]:
    with observer(quiet=quiet) as watching:
        yield watching


class _Teller:
    """A line on stderr for each point as it ends."""

    def __init__(self, total: int) -> None:
        self._total, self._ended = total, 0

    def __call__(self, point: str, outcome: Report | Failure) -> None:
        self._ended += 1
        status = f"failed: {outcome.message}" if isinstance(outcome, Failure) else "done"
        typer.echo(f"point {self._ended} of {self._total}, {point}: {status}", err=True)


def _quiet(point: str, outcome: Report | Failure) -> None:
    return


def _show(result: Sweep, folder: Path) -> None:
    typer.echo(page.table_of(result))
    for point in result.points:
        if point.error is not None:
            typer.echo(f"failed: {point.name}: {point.error.message}", err=True)
            typer.echo(f"  hint: {point.error.hint}", err=True)
    typer.echo(f"sweep: {folder / page.NAME}")
    if any(point.status == "done" for point in result.points):
        every = folder / POINTS / "*"
        typer.echo(f"points: {markdown_of(every / REPORT)}, {html_of(every / REPORT)}")
