"""Perplexity by text source in a report: a row per source, their geometric mean, the worst."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from numprune_export.report.schema import Measurement, Report
from numprune_export.report.tables.format import number
from numprune_export.report.verdict import HEADLINE, PERPLEXITY, RATIO, WORST, final, scores

MARK = "(in calibration)"
"""Behind the name of a source of which the calibration has text."""

Metrics = Mapping[str, Measurement]


@dataclass(frozen=True)
class SourceRow:
    """One source, or an aggregate of all sources."""

    title: str
    """Its name and, if the calibration has text of it, that."""
    perplexities: Metrics
    """By model; empty for an aggregate."""
    ratios: Metrics
    """By model, relative to the dense model; empty if that was not measured."""


def rows(metrics: Metrics, known: Set[str] = frozenset()) -> tuple[SourceRow, ...]:
    """One row per source in the recipe's order, then the geometric mean and the worst source; empty
    for a single text.

    Args:
        metrics: Of a report.
        known: Sources of which the calibration has text; see `of_calibration`.
    """
    by_score = scores(metrics)
    names = [score.partition(".")[2] for score in by_score if score.startswith(f"{PERPLEXITY}.")]
    sources = [
        SourceRow(
            _title(name, known),
            by_score[f"{PERPLEXITY}.{name}"],
            by_score.get(f"{RATIO}.{name}", {}),
        )
        for name in names
    ]
    if HEADLINE in by_score:
        worst = by_score[WORST]
        sources.append(SourceRow("geometric mean", {}, by_score[HEADLINE]))
        sources.append(SourceRow(f"worst ({worst_source(worst)})", {}, worst))
    return tuple(sources)


def of_calibration(report: Report) -> frozenset[str]:
    """Names of the evaluation sources of which the calibration has text too."""
    sources = report.texts.get("evaluation", ())
    return frozenset(source.name for source in sources if source.of_calibration)


def worst_source(worst: Metrics) -> str:
    """The source with the largest ratio, on the model to judge by."""
    return str(worst[final(worst)].conditions.get("worst", ""))


def lines(report: Report) -> Iterator[str]:
    """A line of text per row; none for a single text."""
    for row in rows(report.metrics, of_calibration(report)):
        steps = " → ".join(
            f"{number(metric.value)} {model}" for model, metric in row.perplexities.items()
        )
        parts = [f"perplexity {steps}"] if steps else []
        parts += [_ratio(row.ratios)] if row.ratios else []
        yield f"{row.title}: {'; '.join(parts)}"


def _title(name: str, known: Set[str]) -> str:
    return f"{name} {MARK}" if name in known else name


def _ratio(ratios: Metrics) -> str:
    model = final(ratios)
    return f"{model} {interval_of(ratios[model])} of dense"


def interval_of(ratio: Measurement) -> str:
    """A ratio with its interval.

    >>> interval_of(Measurement(value=1.25, unit="ratio", samples=9, low=1.2, high=1.3))
    '1.250x (1.200 to 1.300)'
    """
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.3f}x"
    return f"{ratio.value:.3f}x ({ratio.low:.3f} to {ratio.high:.3f})"
