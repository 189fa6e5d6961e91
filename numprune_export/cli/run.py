"""`numprune-export run`: the whole job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from numprune_export.cli.interrupts import stopping_once, told_how_to_go_on


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
    with told_how_to_go_on(), stopping_once():
        # Here and not above, so that Ctrl-C while PyTorch is imported is answered too.
        from numprune_export.cli import running

        given = running.Given(recipe, tuple(target or ()), out, tuple(set_ or ()))
        tell = running.with_events if json else running.with_console
        tell(given, quiet=quiet)
