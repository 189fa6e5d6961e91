"""Table of the text sources of calibration and evaluation."""

from __future__ import annotations

from numprune_export.report.schema import Report, TextSource
from numprune_export.report.tables.table import ABSENT, Tabular


def texts(report: Report) -> Tabular | None:
    """One row per source; None if each section has one source that was read whole."""
    sources = [(section, source) for section, read in report.texts.items() for source in read]
    if not any(source.rows_read is not None for _, source in sources) and all(
        len(read) < 2 for read in report.texts.values()
    ):
        return None
    header = ("source", "for", "share", "windows", "tokens", "documents", "rows streamed")
    return Tabular(header, tuple(_row(section, source) for section, source in sources))


def _row(section: str, source: TextSource) -> tuple[str, ...]:
    return (
        source.name,
        section,
        ABSENT if source.share is None else f"{source.share:g}",
        str(source.sequences),
        str(source.tokens),
        str(source.documents),
        ABSENT if source.rows_read is None else str(source.rows_read),
    )
