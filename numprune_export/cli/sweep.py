"""`numprune-export sweep`: many runs of one recipe, compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from numprune_export.cli.interrupts import INTERRUPTED, command_line, stopping_once

if TYPE_CHECKING:
    from numprune_export.sweep.record import Sweep
    from numprune_export.sweep.work import Executor, Failure


def sweep(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.")],
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
        typer.Option(help="How query heads go: `grouped,single`.", show_default=False),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Export to this target instead of the recipe's; may be repeated."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change the recipe of all points; may be repeated."),
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
        typer.Option(min=1, help="With --ray, at most so many points at once.", show_default=False),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print sweep.json.")] = False,
) -> None:
    """Run a recipe at several budgets, scores or presets, and show what each trades.

    What the dense model shows of itself is computed once for all points. A sweep that was stopped
    goes on with the same command. Exit code 1 if a point failed; the others are done all the same.
    """
    try:
        with stopping_once():
            found, folder = _sweep(
                recipe, keep, score, method, query_heads, target or [], set_ or [], out,
                _executor(ray, jobs, quiet=quiet), quiet=quiet,
            )  # fmt: skip
    except KeyboardInterrupt:
        typer.echo(
            "interrupted: whole stages are kept, and this command goes on after the last of them:\n"
            f"  {command_line()}",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from None
    _show(found, folder, as_json=as_json)
    raise typer.Exit(any(one.status != "done" for one in found.points))


def _executor(address: str | None, jobs: int | None, *, quiet: bool) -> Executor:
    from numprune_export.errors import RecipeError

    if address is not None:
        from numprune_export.sweep.cluster import Cluster

        return Cluster(address, most=jobs, quiet=quiet)
    if jobs is not None and jobs > 1:
        raise RecipeError(
            f"`--jobs {jobs}` would time {jobs} points on one machine at once",
            hint="leave it out, or give the machines of a Ray cluster by `--ray`",
        )
    from numprune_export.sweep.local import Local

    return Local()


def _sweep(
    recipe: str,
    keep: str,
    score: str | None,
    method: str | None,
    query_heads: str | None,
    target: list[str],
    changes: list[str],
    out: Path | None,
    executor: Executor,
    *,
    quiet: bool,
) -> tuple[Sweep, Path]:
    from functools import partial

    from numprune_export import sweep as sweeps
    from numprune_export.cli.console import observer
    from numprune_export.sweep import points

    axes = points.Axes(
        points.keeps(keep),
        points.words("--score", score),
        points.words("--method", method),
        points.words("--query-heads", query_heads),
    )
    name, found = points.points(recipe, axes, changes, target)
    folder = out or Path("runs") / f"{name}-sweep"
    tell = _quiet if quiet else _Teller(len(found))
    watch = partial(observer, quiet=quiet)
    made = sweeps.sweep(name, found, folder=folder, executor=executor, watch=watch, tell=tell)
    return made, folder


class _Teller:
    """A line on stderr for each point as it ends."""

    def __init__(self, total: int) -> None:
        self._total, self._ended = total, 0

    def __call__(self, point: str, failure: Failure | None) -> None:
        self._ended += 1
        outcome = "done" if failure is None else f"failed: {failure.message}"
        typer.echo(f"point {self._ended} of {self._total}, {point}: {outcome}", err=True)


def _quiet(point: str, failure: Failure | None) -> None:
    return


def _show(found: Sweep, folder: Path, *, as_json: bool) -> None:
    from numprune_export.sweep import page, record

    if as_json:
        typer.echo(record.to_json(found), nl=False)
        return
    typer.echo(page.table_of(found))
    for one in found.points:
        if one.error is not None:
            typer.echo(f"failed: {one.name}: {one.error.message}", err=True)
            typer.echo(f"  hint: {one.error.hint}", err=True)
    typer.echo(f"sweep: {folder / 'sweep.md'}")
