"""Print the paths of a written report."""

from __future__ import annotations

from pathlib import Path

import typer

from numprune_export.report.pages import html_of, markdown_of


def echo_report_paths(report: Path, *, json: bool = False) -> None:
    """Print the paths of a report's pages.

    Args:
        report: JSON file of the report.
        json: Also print the path of the JSON file.
    """
    if json:
        typer.echo(f"json: {report}")
    typer.echo(f"report: {markdown_of(report)}")
    typer.echo(f"page: {html_of(report)}")
