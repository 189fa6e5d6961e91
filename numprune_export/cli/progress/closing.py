"""The last lines of a command that wrote a report: where to read it."""

from __future__ import annotations

from pathlib import Path

import typer

from numprune_export.report.pages import html_of, markdown_of


def told_where(report: Path, *, json: bool = False) -> None:
    """
    Args:
        report: The report's JSON.
        json: Name it too: it has a name that cannot be guessed.
    """
    if json:
        typer.echo(f"json: {report}")
    typer.echo(f"report: {markdown_of(report)}")
    typer.echo(f"page: {html_of(report)}")
