"""A run of the pipeline, told to a person or to a program."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import typer

from numprune_export import pipeline
from numprune_export import recipe as recipes
from numprune_export.cli.progress.closing import told_where
from numprune_export.cli.progress.console import observer
from numprune_export.cli.progress.events import Events, Reported, Start, Warned, events_only
from numprune_export.cli.progress.failures import failures_told
from numprune_export.cli.progress.heartbeat import heartbeat
from numprune_export.core.progress import Observer
from numprune_export.core.run_folder import REPORT
from numprune_export.core.version import __version__
from numprune_export.recipe.lookup import Named
from numprune_export.report.pages import html_of, markdown_of
from numprune_export.report.schema import Report


@dataclass(frozen=True)
class Given:
    """What the command line says."""

    recipe: str
    targets: tuple[str, ...]
    out: Path | None
    assignments: tuple[str, ...]

    def named(self) -> Named:
        """The recipe, changed as asked for."""
        found = recipes.named(self.recipe, self.assignments)
        if not self.targets:
            return found
        content = {name: found.recipe.targets.get(name, {}) for name in self.targets}
        return replace(found, recipe=found.recipe.model_copy(update={"targets": content}))

    def folder(self, name: str) -> Path:
        return self.out or Path("runs") / name


def with_console(given: Given, *, quiet: bool) -> None:
    """Progress on stderr, the verdict on stdout."""
    named = given.named()
    folder = given.folder(named.name)
    with observer(quiet=quiet) as watching:
        report = _run(named, folder, watching)
    for warning in report.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(report.summary)
    told_where(folder / REPORT)


def with_events(given: Given, *, quiet: bool) -> None:
    """Events on stdout and nothing else there; errors on stderr too."""
    with events_only() as stream:
        events = Events(stream, quiet=quiet)
        with failures_told(events):
            _told(given, events)


def _told(given: Given, events: Events) -> None:
    named = given.named()
    folder = given.folder(named.name)
    events.write(Start(version=__version__, recipe=named.name, folder=str(folder)))
    with heartbeat(events.beat):
        report = _run(named, folder, events)
    for warning in report.warnings:
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


def _run(named: Named, folder: Path, watching: Observer) -> Report:
    search = (named.folder, Path.cwd())
    return pipeline.run(
        named.recipe, name=named.name, folder=folder, search=search, observer=watching
    )
