"""Run the pipeline with console output or events."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path

import typer

from numprune_export import api
from numprune_export import recipe as recipes
from numprune_export.cli.progress.closing import echo_report_paths
from numprune_export.cli.progress.console import observer
from numprune_export.cli.progress.events import Events, Reported, Start, Warned, events_only
from numprune_export.cli.progress.failures import failure_events
from numprune_export.cli.progress.heartbeat import heartbeat
from numprune_export.cli.progress.interrupts import Stoppable, held_back
from numprune_export.core.errors import Mistakes
from numprune_export.core.processes import started
from numprune_export.core.progress import Observer
from numprune_export.core.run_folder import REPORT, require_own
from numprune_export.core.version import __version__
from numprune_export.recipe.lookup import Named
from numprune_export.report.pages import html_of, markdown_of
from numprune_export.report.schema import Report
from numprune_export.report.text_sources import lines


@dataclass(frozen=True)
class Given:
    """Arguments of the `run` command."""

    recipe: str
    targets: tuple[str, ...]
    out: Path | None
    assignments: tuple[str, ...]

    def checked(self) -> tuple[Named, Path]:
        """The recipe with its changes, and the run folder.

        Raises:
            NumpruneError: lists every mistake that is known before PyTorch is imported.
        """
        mistakes, named = Mistakes(), None
        with mistakes.collected():
            named = recipes.runnable(self.recipe, self.assignments, self.targets)
        folder = Path("runs") / named.name if named and not self.out else self.out
        if folder is not None:
            with mistakes.collected():
                require_own(folder)
        mistakes.raise_all()
        assert named is not None
        assert folder is not None
        return named, folder


def with_console(given: Given, *, quiet: bool) -> None:
    """Run with progress on stderr and the summary on stdout."""
    named, folder = given.checked()
    if not started().first:
        _follow(named, folder)
        return
    for notice in named.notices:
        typer.echo(f"note: {notice}", err=True)
    with observer(quiet=quiet) as watching:
        report = _run(named, folder, watching)
    for warning in report.all_warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(report.summary)
    for line in lines(report):
        typer.echo(line)
    echo_report_paths(folder / REPORT)


def with_events(given: Given, *, quiet: bool) -> None:
    """Run with only events on stdout; errors also on stderr."""
    with events_only() as stream:
        events = Events(stream, quiet=quiet)
        with failure_events(events):
            _stream_run(given, events)


def _stream_run(given: Given, events: Events) -> None:
    named, folder = given.checked()
    if not started().first:
        _follow(named, folder)
        return
    events.write(Start(version=__version__, recipe=named.name, folder=str(folder)))
    for notice in named.notices:
        events.write(Warned(message=notice))
    with heartbeat(events.beat):
        report = _run(named, folder, events)
    for warning in report.all_warnings:
        events.write(Warned(message=warning))
    path = folder / REPORT
    events.write(
        Reported(
            path=str(path),
            markdown=str(markdown_of(path)),
            html=str(html_of(path)),
            summary=report.summary,
        )
    )


def _follow(named: Named, folder: Path) -> None:
    from numprune_export import pipeline

    pipeline.follow(named.recipe, folder=folder, search=(named.folder, Path.cwd()))


def _run(named: Named, folder: Path, watching: Observer) -> Report:
    # Imported here: PyTorch takes seconds to import, and mistakes are reported without it.
    with held_back():
        import numprune_export.pipeline  # noqa: F401
    gc.freeze()  # stages collect garbage; what was imported need not be looked through each time
    return api.run(named, folder, progress=Stoppable(watching))
