"""Paths of a report's Markdown and HTML pages, next to its JSON file."""

from __future__ import annotations

from pathlib import Path

MARKDOWN, HTML = ".md", ".html"


def markdown_of(report: Path) -> Path:
    """Path of the Markdown page.

    >>> markdown_of(Path("runs/a/report.json")).as_posix()
    'runs/a/report.md'
    """
    return report.with_suffix(MARKDOWN)


def html_of(report: Path) -> Path:
    return report.with_suffix(HTML)
