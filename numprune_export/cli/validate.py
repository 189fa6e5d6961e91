"""`numprune-export validate`: remeasure quality and parity of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from numprune_export.cli.options import NewReport, Quiet, Search


def validate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    out: NewReport = None,
    search: Search = None,
    quiet: Quiet = False,
) -> None:
    """Remeasure quality and parity of a finished run from its files."""
    from numprune_export.cli.progress.closing import echo_report_paths
    from numprune_export.cli.progress.console import observer
    from numprune_export.report import sections
    from numprune_export.workflows.remeasure.finished_run import opened

    with observer(quiet=quiet) as watching, opened(run) as finished:
        # Imported here: it imports PyTorch, and a wrong folder is reported without it.
        from numprune_export.workflows.remeasure import new_report, rerun

        report = rerun.validate(finished, search or (), watching)
        place = new_report.place_of(run, out, report)
        new_report.write(place, report)
    typer.echo(sections.quality(report))
    if table := sections.parity(report.metrics):
        typer.echo(f"\n{table}")
    for name, why in report.not_run.items():
        typer.echo(f"not measured: {name}: {why}", err=True)
    typer.echo("")
    echo_report_paths(place, json=True)
