"""`numprune-export report`: write the HTML page of a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    path: Annotated[Path, typer.Argument(help="A run folder, or its report.json.")],
    html: Annotated[
        Path | None,
        typer.Option(help="Output file. [default: report.html beside it]", show_default=False),
    ] = None,
) -> None:
    """Write report.html from report.json: a single file that works offline."""
    from numprune_export.core.errors import OutputError
    from numprune_export.core.run_folder import REPORT
    from numprune_export.report.html import page
    from numprune_export.report.pages import html_of, markdown_of
    from numprune_export.report.store import read_sealed

    source = path / REPORT if path.is_dir() else path
    content, seal = read_sealed(source)
    place = html or html_of(source)
    try:
        place.write_text(page.render(content, seal=seal), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"cannot write `{place}`: {error.strerror}", hint="choose another file: `--html FILE`"
        ) from None
    if seal == "edited":
        typer.echo(f"`{source}` was changed after it was written: noted on the page", err=True)
    if markdown_of(source).is_file():
        typer.echo(f"report: {markdown_of(source)}")
    typer.echo(f"page: {place}")
