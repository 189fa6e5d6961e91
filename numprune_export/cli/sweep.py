"""`numprune-export sweep`: many runs of one recipe, compared."""

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


def sweep(
    recipe: RecipeName,
    keep: Annotated[
        str, typer.Option(help="Fractions to keep: `0.9,0.8,0.7`.", show_default=False)
    ],
    score: Annotated[
        str | None, typer.Option(help="Scores to try: `numerical,flap`.", show_default=False)
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Presets to try: `best,fast`.", show_default=False)
    ] = None,
    query_heads: Annotated[
        str | None,
        typer.Option(help="Query head modes to try: `grouped,single`.", show_default=False),
    ] = None,
    target: ExportTargets = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a recipe key for all points; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Sweep folder. [default: runs/<recipe>-sweep]", show_default=False),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Run points on a Ray cluster, one per node: its address, or `local`.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="With --ray, maximum number of concurrent points.", show_default=False
        ),
    ] = None,
    device: Device = None,
    quiet: Quiet = False,
    as_json: EventStream = False,
) -> None:
    """Run a recipe at several budgets, scores or presets, and compare quality, speed and size.

    Statistics and scores of the dense model are computed once for all points. An interrupted sweep
    resumes with the same command. Exit code 1 if a point failed; the others are still run.
    """
    with resume_hint(), stopping_once():
        from numprune_export.cli.progress import sweep as sweep_progress

        changes = with_device(set_, device)
        given = sweep_progress.Given(
            recipe, keep, score, method, query_heads, tuple(target or ()), changes, out
        )
        place = sweep_progress.Place(ray, jobs)
        tell = sweep_progress.with_events if as_json else sweep_progress.with_console
        failed = tell(given, place, quiet=quiet)
    raise typer.Exit(failed)
