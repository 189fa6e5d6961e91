"""`numprune-export run`: run a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from numprune_export.cli.options import (
    Device,
    EventStream,
    ExportTargets,
    Quiet,
    RecipeName,
    with_device,
)
from numprune_export.cli.progress.interrupts import resume_hint, stopping_once


def run(
    recipe: RecipeName,
    target: ExportTargets = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder. [default: runs/<recipe>]", show_default=False),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a recipe key: `--set keep=0.7`; may be repeated."),
    ] = None,
    device: Device = None,
    quiet: Quiet = False,
    json: EventStream = False,
) -> None:
    """Prune, save, export, validate and benchmark a model by a recipe.

    An interrupted run resumes after its last finished stage with the same command.
    """
    with resume_hint(), stopping_once():
        from numprune_export.cli.progress import run as run_progress

        changes = with_device(set_, device)
        given = run_progress.Given(recipe, tuple(target or ()), out, changes)
        tell = run_progress.with_events if json else run_progress.with_console
        tell(given, quiet=quiet)
