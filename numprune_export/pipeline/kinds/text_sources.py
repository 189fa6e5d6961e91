"""What a report says about the text sources of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from numprune_export.core.paths import require
from numprune_export.data.corpus_settings import Source
from numprune_export.data.mix import DrawnSource
from numprune_export.report.schema import TextSource


def summaries(
    calibration: Sequence[DrawnSource], evaluation: Sequence[DrawnSource], search: Sequence[Path]
) -> Mapping[str, tuple[TextSource, ...]]:
    """By section of the recipe."""
    known = {origin for drawn in calibration for origin in _origins(drawn.source, search)}
    return {
        "calibration": tuple(_summary(drawn) for drawn in calibration),
        "evaluation": tuple(
            _summary(drawn, of_calibration=not known.isdisjoint(_origins(drawn.source, search)))
            for drawn in evaluation
        ),
    }


def _origins(source: Source, search: Sequence[Path]) -> Set[tuple[str, ...]]:
    """Files by their path, and a data set by its id and configuration: splits are of one kind."""
    if source.dataset is not None:
        return {("data set", source.dataset.id, source.dataset.name or "")}
    files = (require(name, search, what="text file") for name in source.files)
    return {("file", str(path.resolve())) for path in files}


def _summary(source: DrawnSource, *, of_calibration: bool = False) -> TextSource:
    return TextSource(
        name=source.name,
        sequences=len(source.windows.tokens),
        tokens=int(source.windows.lengths.sum()),
        share=source.source.share,
        documents=source.drawn.documents,
        rows_read=source.drawn.rows_read,
        of_calibration=of_calibration,
    )
