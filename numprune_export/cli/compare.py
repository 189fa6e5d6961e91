"""`numprune-export compare`: compare runs, artifacts and models."""

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
            help="Text file for decoders' perplexity. [default: the evaluation text of A's run]",
            show_default=False,
        ),
    ] = None,
    samples: Samples = None,
    threads: Threads = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Target of a run's artifact.", show_default=False),
    ] = None,
    search: Search = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write JSON to this file.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Time models in interleaved rounds, and compare size and quality.

    A run stands for its pruned artifact; its dense artifact is `RUN/artifacts/TARGET/dense`.
    """
    from numprune_export.cli.progress.console import observer
    from numprune_export.core.errors import RecipeError
    from numprune_export.workflows.remeasure.known import require_known

    if len(what) < 2:
        raise RecipeError(
            f"`{what[0]}` alone cannot be compared",
            hint="give at least two; `bench` measures a single candidate",
        )
    require_known(what)
    # Imported here: it imports PyTorch, and wrong names are reported without it.
    from numprune_export.workflows.remeasure import compare, compare_output, new_report
    from numprune_export.workflows.remeasure.rerun import Protocol

    protocol = Protocol(samples, threads, tuple(target or ()))
    with observer(quiet=quiet) as watching:
        comparison = compare.compare(
            what, protocol, text=text, search=search or (), observer=watching
        )
    if out is not None:
        new_report.write_text(out, compare_output.to_json(comparison))
    typer.echo(
        compare_output.to_json(comparison) if as_json else compare_output.render(comparison),
        nl=not as_json,
    )
