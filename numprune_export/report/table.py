"""Markdown tables that are also readable as plain text."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with aligned columns: the first to the left, the rest to the right."""
    cells = [[one.replace("|", "\\|") for one in row] for row in (header, *rows)]
    wide = [max(3, *(len(row[column]) for row in cells)) for column in range(len(header))]
    rule = ["-" * wide[0], *("-" * (one - 1) + ":" for one in wide[1:])]
    return "\n".join(_line(row, wide) for row in (cells[0], rule, *cells[1:]))


def _line(row: Sequence[str], wide: Sequence[int]) -> str:
    first = row[0].ljust(wide[0])
    rest = (cell.rjust(width) for cell, width in zip(row[1:], wide[1:], strict=True))
    return f"| {' | '.join((first, *rest))} |"
