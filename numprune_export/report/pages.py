"""Where the pages of a report lie: beside its JSON, by its name."""

from __future__ import annotations

from pathlib import Path

MARKDOWN, HTML = ".md", ".html"


def markdown_of(report: Path) -> Path:
    """
    >>> markdown_of(Path("runs/a/report.json")).as_posix()
    'runs/a/report.md'
    """
    return report.with_suffix(MARKDOWN)


def html_of(report: Path) -> Path:
    return report.with_suffix(HTML)
