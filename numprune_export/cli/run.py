"""`numprune-export run`: the whole job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from numprune_export.cli.interrupts import INTERRUPTED, command_line, stopping_once


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.")],
    target: Annotated[
        list[str] | None,
        typer.Option(help="Export to this target instead of the recipe's; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder. [default: runs/<recipe>]", show_default=False),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change the recipe: `--set keep=0.7`; may be repeated."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Events on stdout, one JSON object a line.")
    ] = False,
) -> None:
    """Prune, save, export, validate and measure a model as a recipe says.

    A run that was stopped goes on from its last whole stage with the same command.
    """
    try:
        with stopping_once():
            # Here and not above, so that Ctrl-C while PyTorch is imported is answered too.
            from numprune_export.cli import running

            given = running.Given(recipe, tuple(target or ()), out, tuple(set_ or ()))
            if json:
                running.with_events(given, quiet=quiet)
            else:
                running.with_console(given, quiet=quiet)
    except KeyboardInterrupt:
        typer.echo(
            "interrupted: whole stages are kept, and this command goes on after the last of them:\n"
            f"  {command_line()}",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from None
