"""`numprune-export run`: the whole job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
) -> None:
    """Prune, save, export, validate and measure a model as a recipe says.

    A run that was stopped goes on from its last whole stage with the same command.
    """
    from numprune_export import pipeline
    from numprune_export import recipe as recipes
    from numprune_export.cli.console import observer

    named = recipes.named(recipe, set_ or ())
    chosen = named.recipe
    if target:
        chosen = chosen.model_copy(
            update={"targets": {name: chosen.targets.get(name, {}) for name in target}}
        )
    folder = out or Path("runs") / named.name
    search = (named.folder, Path.cwd())
    try:
        with observer(quiet=quiet) as watching:
            report = pipeline.run(
                chosen, name=named.name, folder=folder, search=search, observer=watching
            )
    except KeyboardInterrupt:
        typer.echo("interrupted: the same command goes on from the last whole stage", err=True)
        raise typer.Exit(130) from None
    typer.echo(report.summary)
    typer.echo(f"report: {folder / 'report.md'}")
