"""`inspect`, `recipes`, `targets`, `schema`: information before a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from numprune_export.export.exporter import Availability


def inspect(
    model: Annotated[
        str,
        typer.Argument(
            help="Model folder, .gguf file, hub id or package:…; with --plan, a recipe.",
            metavar="MODEL",
        ),
    ],
    revision: Annotated[str | None, typer.Option(help="Revision of a hub id.")] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Estimate time, memory and disk of a recipe's pruning."),
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="With --plan, override a recipe key: `--set keep=0.7`."),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="MACHINE",
            help="With --plan, `cpu`, `cuda` or a machine that is not here: `h100-80gb`,"
            " `rtx4090-24gb`, `cpu-16-cores`, ...; a wrong name lists all.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="PATH",
            help="With --plan, the model's config.json or its folder: no weights, no network.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List a model's prunable sites with their units and parameters."""
    from numprune_export.workflows.remeasure.known import require_known

    if plan:
        if revision is not None:
            raise typer.BadParameter(
                "not with a recipe: give --set model.revision=…", param_hint="--revision"
            )
        _estimate(model, set_ or (), on, config, as_json=as_json)
        return
    for option, given in (("--set", set_), ("--on", on), ("--config", config)):
        if given:
            raise typer.BadParameter("requires --plan and a recipe", param_hint=option)
    climbs = ".." in Path(model).parts and Path(model).exists()
    reference = str(Path(model).resolve()) if climbs else model
    require_known((reference,))
    # Imported here: it imports PyTorch, and a wrong name is reported without it.
    from numprune_export.workflows.estimate import inspection

    inspected = inspection.look(reference, revision=revision, search=(Path.cwd(),))
    typer.echo(
        json.dumps(inspected.to_json(), indent=2) if as_json else inspection.render(inspected)
    )


def _estimate(
    name: str, changes: Sequence[str], on: str | None, config: Path | None, *, as_json: bool
) -> None:
    from numprune_export import recipe
    from numprune_export.core.errors import InputError, RecipeError

    if Path(name).is_dir() or Path(name).suffix == ".gguf" or name.startswith("package:"):
        raise RecipeError(
            f"`{name}` is a model; an estimate needs a recipe",
            hint="give the name or file of a recipe; `inspect` without `--plan` accepts models",
        )
    named = recipe.named(name, changes)
    if config is not None and not config.exists():
        raise InputError(
            f"there is no configuration at `{config}`",
            hint="give a model's config.json, or the folder that holds it",
        )
    from numprune_export.workflows.estimate import Question, estimate, forecast  # imports PyTorch

    question = Question(on, None if config is None else config.resolve())
    result = estimate(named.recipe, search=(named.folder, Path.cwd()), question=question)
    typer.echo(json.dumps(result.to_json(), indent=2) if as_json else forecast.render(result))


def recipes() -> None:
    """List the shipped recipes."""
    from numprune_export import recipe
    from numprune_export.data.tasks import glue

    for name in recipe.builtin_names():
        first = (recipe.builtin_dir() / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
        typer.echo(f"{name:24} {first.lstrip('# ')}")
    for name, entry in glue.table().items():
        typer.echo(f"{name:24} {entry.model}, keep 0.6 of its MACs; model and data from the hub")


def targets() -> None:
    """List the export targets and whether they can build and run here."""
    from numprune_export.export import targets as known

    for name in known.names():
        exporter = known.find(name)
        here = exporter.availability()
        typer.echo(f"{name:12} {_state(here):12} {exporter.summary}")
        typer.echo(f"{'':12} {here.detail}")
        if here.ready and here.cannot_run not in (None, here.detail):
            typer.echo(f"{'':12} {here.cannot_run}")
        if here.install and _state(here) != "ready":
            typer.echo(f"{'':12} install: {here.install}")


def _state(here: Availability) -> str:
    if not here.ready:
        return "missing"
    return "ready" if here.cannot_run is None else "builds only"


def schema() -> None:
    """Print the JSON schema of recipes."""
    from numprune_export.recipe import schema_json

    typer.echo(schema_json(), nl=False)
