"""Tables of quality, parity and the choice of the attention weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

from numprune_export.report import text_sources
from numprune_export.report.schema import Measurement
from numprune_export.report.tables.format import number
from numprune_export.report.tables.table import (
    ABSENT,
    Measurements,
    Tabular,
    interval,
    ratio,
    reading,
)
from numprune_export.report.verdict import is_of_source, score_name, scores, targets

NOTE = (
    "masked: units removed, without compensation; pruned: with the recipe's compensation, in"
    " PyTorch; others: the exported pruned model."
)


def quality(metrics: Measurements, known: Set[str] = frozenset()) -> dict[str, Tabular]:
    """Tables by score, the primary score first; one table for all text sources, by the first of
    their scores.

    Args:
        metrics: Of a report.
        known: Text sources of which the calibration has text.
    """
    tables: dict[str, Tabular] = {}
    by_score = scores(metrics)
    of_sources = next(filter(is_of_source, by_score), None)
    for score, by in by_score.items():
        if score == of_sources:
            tables[score] = by_source(metrics, known)
        elif not is_of_source(score):
            tables[score] = _score(score, by, metrics)
    return tables


def by_source(
    metrics: Measurements, known: Set[str] = frozenset(), reference: str = "dense"
) -> Tabular:
    """One row per text source, their geometric mean, and the worst.

    Args:
        metrics: Of a report or a comparison.
        known: Text sources of which the calibration has text.
        reference: The model that ratios are relative to.
    """
    rows = text_sources.rows(metrics, known)
    models = [*dict.fromkeys(model for row in rows for model in row.perplexities)]
    judged = [*dict.fromkeys(model for row in rows for model in row.ratios if model != "masked")]
    cells = [
        (
            row.title,
            *(_cell(row.perplexities.get(model)) for model in models),
            *(_cell(row.ratios.get(model), text_sources.interval_of) for model in judged),
        )
        for row in rows
    ]
    header = ("perplexity on", *models, *(f"{model} of {reference}" for model in judged))
    note = "In brackets: 95 % interval of the ratio, paired by window."
    if any(row.title.endswith(text_sources.MARK) for row in rows):
        note += " in calibration: the calibration has text of the same file or data set."
    return Tabular(header, tuple(cells), note=note)


def _cell(
    metric: Measurement | None,
    form: Callable[[Measurement], str] = lambda metric: number(metric.value),
) -> str:
    return ABSENT if metric is None else form(metric)


def _score(score: str, by: Mapping[str, Measurement], metrics: Measurements) -> Tabular:
    dense, rows = by.get("dense"), []
    relative = score == "perplexity"
    for stage, metric in by.items():
        change = ABSENT
        if dense is not None:
            change = (
                f"{number(ratio(metric.value, dense.value))}x"
                if relative
                else _change(metric.value - dense.value, metrics.get(f"change.{score}.{stage}"))
            )
        rows.append(
            (stage, number(metric.value), interval(metric, number), change, str(metric.samples))
        )
    titles = ("of dense", "tokens scored") if relative else ("from dense", "examples")
    header = ("model", score_name(score), "95 % interval", *titles)
    return Tabular(header, tuple(rows), note=_cut(next(iter(by.values()))))


def _change(value: float, paired: Measurement | None) -> str:
    if paired is None or paired.low is None or paired.high is None:
        return f"{value:+.4f}"
    return f"{value:+.4f} ({paired.low:+.4f} to {paired.high:+.4f})"


def _cut(measurement: Measurement) -> str:
    """A note on the intervals in the change column, and on the number of truncated examples."""
    cut, longest = (measurement.conditions.get(key) for key in ("cut", "max_length"))
    if not isinstance(cut, int):
        return ""
    return (
        "In brackets: 95 % interval of the change, paired by example. Truncated to"
        f" {longest} tokens: {cut} of {measurement.samples} texts."
    )


def parity(metrics: Measurements) -> Tabular | None:
    """Error of each exported model, and PyTorch's own error in the same dtype on the same text."""
    rows = [
        _parity_row(metrics, target, variant)
        for target in targets(metrics, "parity")
        for variant in ("dense", "pruned")
        if f"{parity_name(target, variant)}.max_abs_error" in metrics
    ]
    header = (
        "model",
        "max abs error",
        "PyTorch's own in that dtype",
        "limit",
        "KL (nats)",
        "same top-1",
        "same greedy tokens",
        "positions",
        "worst at",
    )
    return Tabular(header, tuple(rows)) if rows else None


def parity_name(target: str, variant: str) -> str:
    """The prefix of a model's parity metrics."""
    return f"parity.{target}.dense" if variant == "dense" else f"parity.{target}"


def _parity_row(metrics: Measurements, target: str, variant: str) -> tuple[str, ...]:
    name = parity_name(target, variant)
    error = metrics[f"{name}.max_abs_error"]
    limit = error.conditions.get("tolerance")
    own, divergence, top1, greedy = (
        reading(metrics, f"{name}.{key}", number)
        for key in ("rounding_error", "kl_mean", "top1_agreement", "greedy_match")
    )
    return (
        f"{target}, {variant}",
        number(error.value),
        own,
        number(limit) if isinstance(limit, float) else ABSENT,
        divergence,
        top1,
        greedy,
        str(error.samples),
        str(error.conditions.get("worst", ABSENT)),
    )


def allocation(metrics: Measurements) -> Tabular | None:
    """The attention weights that were tried, and the chosen one."""
    prefix = "allocation.divergence.attention_"
    rows = [
        (name.removeprefix(prefix), number(metric.value), str(metric.samples))
        for name, metric in metrics.items()
        if name.startswith(prefix)
    ]
    if not rows:
        return None
    taken = reading(metrics, "allocation.attention_weight", "{:g}x".format)
    header = ("attention weight", "KL from dense, nats", "positions")
    text = "Measured on generated text if calibration uses it, else on the calibration data"
    note = f"{text}; with trial compensation. Chosen: {taken}."
    return Tabular(header, tuple(rows), note=note)
