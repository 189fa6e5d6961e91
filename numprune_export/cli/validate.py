"""`numprune-export validate`: quality and parity of a finished run, once more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def validate(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The new report, JSON; its pages lie beside it. [default: report-<UTC time>.json in the run]",
            show_default=False,
        ),
    ] = None,
    search: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder that the recipe's relative paths are looked up in; may be repeated.",
            show_default=False,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Measure quality and parity of a finished run again, from its own files."""
    from numprune_export.cli.closing import told_where
    from numprune_export.cli.console import observer
    from numprune_export.remeasure import again, renewed
    from numprune_export.remeasure.finished_run import opened
    from numprune_export.report import sections

    with observer(quiet=quiet) as watching, opened(run) as found:
        report = again.validate(found, search or (), watching)
        place = renewed.place_of(run, out, report)
        renewed.write(place, report)
    typer.echo(sections.quality(report.metrics))
    if table := sections.parity(report.metrics):
        typer.echo(f"\n{table}")
    for name, why in report.not_run.items():
        typer.echo(f"not measured: {name}: {why}", err=True)
    typer.echo("")
    told_where(place, json=True)
