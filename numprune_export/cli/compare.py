"""`numprune-export compare`: any models side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from numprune_export.cli.options import Quiet, Samples, Search, Threads


def compare(
    what: Annotated[
        list[str],
        typer.Argument(
            help="Runs, artifacts or models, at least two; the first is the reference.",
            metavar="A B...",
        ),
    ],
    text: Annotated[
        Path | None,
        typer.Option(
            help="Measure decoders' perplexity on this file. [default: what A's run was evaluated on]",
            show_default=False,
        ),
    ] = None,
    samples: Samples = None,
    threads: Threads = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Which artifact of a run, by target.", show_default=False),
    ] = None,
    search: Search = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the JSON here too.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Time models in interleaved rounds, and compare size and quality.

    Of a run its pruned artifact is taken; its dense one is `RUN/artifacts/TARGET/dense`.
    """
    from numprune_export.cli.progress.console import observer
    from numprune_export.core.errors import RecipeError
    from numprune_export.workflows.remeasure.known import require_known

    if len(what) < 2:
        raise RecipeError(
            f"`{what[0]}` alone cannot be compared",
            hint="name at least two; `bench` measures one by itself",
        )
    require_known(what)
    # Not above: PyTorch comes with it, and wrong names are answered without it.
    from numprune_export.workflows.remeasure import compare, compare_output, new_report
    from numprune_export.workflows.remeasure.rerun import Protocol

    protocol = Protocol(samples, threads, tuple(target or ()))
    with observer(quiet=quiet) as watching:
        found = compare.compare(what, protocol, text=text, search=search or (), observer=watching)
    if out is not None:
        new_report.write_text(out, compare_output.to_json(found))
    typer.echo(
        compare_output.to_json(found) if as_json else compare_output.render(found), nl=not as_json
    )
