"""Summary cards: the main numbers for quality, speed, size, memory and parity."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from numprune_export.report.schema import Measurement, Report
from numprune_export.report.tables.format import measured, number, percent
from numprune_export.report.tables.quality import parity_name
from numprune_export.report.tables.table import Measurements, interval, ratio
from numprune_export.report.verdict import (
    HEADLINE,
    MOST_PHASES,
    WORST,
    final,
    is_reference,
    score_name,
    scores,
    significant,
    targets,
    timed,
)


@dataclass(frozen=True)
class Figure:
    """One number, formatted and as stored in the report."""

    text: str
    label: str
    metric: str | None = None
    """Name of the metric; None: the number is derived from several."""
    value: float | None = None


@dataclass(frozen=True)
class Card:
    title: str
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()


def cards(report: Report) -> tuple[Card, ...]:
    metrics = report.metrics
    summary = [_quality(metrics), *_speeds(report), _size(metrics), *_memory(metrics)]
    return (*summary, *_parity(metrics))


def _quality(metrics: Measurements) -> Card:
    for score, by in scores(metrics).items():
        if score == HEADLINE:
            return _ratios(metrics, by)
        stage = final(by)
        shown, dense, title = by[stage], by.get("dense"), score_name(score)
        name = f"quality.{score}.{stage}"
        figures = [Figure(number(shown.value), f"{title}, {stage}", name, shown.value)]
        notes = []
        if dense is not None and stage != "dense":
            figures.append(
                Figure(
                    number(dense.value),
                    f"{title}, dense",
                    f"quality.{score}.dense",
                    dense.value,
                )
            )
            notes.append(_change(score, shown.value, dense.value))
        if shown.low is not None and shown.high is not None:
            notes.append(f"95 % interval {number(shown.low)} to {number(shown.high)}")
        return Card("Quality", tuple(figures), tuple(notes))
    return Card("Quality", (), ("Not measured.",))


def _ratios(metrics: Measurements, mean: Measurements) -> Card:
    """The headline of several text sources, and the worst of them."""
    model = final(mean)
    figures = []
    for score, label in ((HEADLINE, "geometric mean"), (WORST, "worst source")):
        name = f"quality.{score}.{model}"
        value = metrics[name].value
        figures.append(
            Figure(f"{value:.3f}x", f"perplexity relative to dense, {label}", name, value)
        )
    worst = metrics[f"quality.{WORST}.{model}"].conditions["worst"]
    notes = [f"On {model}, {mean[model].conditions['sources']} text sources; worst: {worst}"]
    if mean[model].low is not None and mean[model].high is not None:
        notes.append(f"95 % interval of the mean {interval(mean[model], '{:.3f}'.format)}")
    return Card("Quality", tuple(figures), tuple(notes))


def _change(score: str, value: float, dense: float) -> str:
    if score == "perplexity":
        return f"{number(ratio(value, dense))}x the dense model's"
    return f"{value - dense:+.4f} from the dense model"


def _speeds(report: Report) -> Iterator[Card]:
    metrics, missing = report.metrics, report.not_run
    names = targets(metrics, "latency")
    for target in [name for name in names if not is_reference(name)] or names:
        speedups = {
            f"{name}.speedup": (phase, metrics[f"{name}.speedup"])
            for phase, timed_target, name in timed(metrics)
            if timed_target == target
        }
        if speedups:
            yield _speed(target, speedups, metrics)
    for target, why in missing.items():
        yield Card(f"Speed on {target}", (), (f"Built, but not run here: {why}",))
    if not names and not missing:
        yield Card("Speed", (), ("Not measured.",))


def _speed(
    target: str, speedups: Mapping[str, tuple[str, Measurement]], metrics: Measurements
) -> Card:
    title = f"Speed on {target}"
    if len(speedups) <= MOST_PHASES:
        figures = [
            Figure(f"{speedup.value:.2f}x", phase, name, speedup.value)
            for name, (phase, speedup) in speedups.items()
        ]
        notes = [
            _sure(phase, speedup, metrics.get(name.replace(".speedup", ".ideal")))
            for name, (phase, speedup) in speedups.items()
        ]
        return Card(title, tuple(figures), tuple(notes))
    ordered = sorted(speedups, key=lambda name: speedups[name][1].value)
    ends = [
        Figure(
            f"{speedups[name][1].value:.2f}x",
            f"{word} of {len(speedups)} shapes, {shape(speedups[name][0])}",
            name,
            speedups[name][1].value,
        )
        for word, name in (("slowest", ordered[0]), ("fastest", ordered[-1]))
    ]
    sure = sum(speedup.low is not None and speedup.low > 1 for _, speedup in speedups.values())
    return Card(title, tuple(ends), (f"Significantly faster at {sure} of {len(speedups)} shapes",))


def _sure(phase: str, speedup: Measurement, ideal: Measurement | None) -> str:
    label = phase[0].upper() + phase[1:]
    if speedup.low is None or speedup.high is None:
        text = f"{label}: no confidence interval"
    else:
        word = "" if significant(speedup) else ", not significant"
        text = f"{label}: 95 % interval {speedup.low:.2f} to {speedup.high:.2f}{word}"
    return text if ideal is None else f"{text}; ideal {ideal.value:.2f}x"


def _size(metrics: Measurements) -> Card:
    figures, before = [], []
    for name, label in (("size.parameters", "parameters"), ("size.bytes", "of weights")):
        dense, pruned = metrics.get(f"{name}.dense"), metrics.get(f"{name}.pruned")
        if dense is None or pruned is None:
            continue
        text = f"{label}, {_less(pruned, dense)}"
        figures.append(Figure(_bare(pruned), text, f"{name}.pruned", pruned.value))
        before.append(f"{_bare(dense)} {label}")
    note = f"Dense: {', '.join(before)}" if before else "Not measured."
    return Card("Size", tuple(figures), (note,))


def _bare(metric: Measurement) -> str:
    return measured(metric.value, metric.unit)


def _less(pruned: Measurement, dense: Measurement) -> str:
    """The relative difference from dense.

    >>> _less(Measurement(value=3, unit="bytes", samples=1), Measurement(value=4, unit="bytes", samples=1))
    '25.0 % less'
    """
    fraction = 1 - ratio(pruned.value, dense.value)
    fewer = "fewer" if pruned.unit == "parameters" else "less"
    return f"{percent(abs(fraction))} {'more' if fraction < 0 else fewer}"


def _memory(metrics: Measurements) -> Iterator[Card]:
    for target in targets(metrics, "memory"):
        name = f"memory.{target}"
        dense = metrics.get(f"{name}.dense.peak_bytes")
        pruned = metrics.get(f"{name}.pruned.peak_bytes")
        if dense is None or pruned is None:
            continue
        figure = Figure(
            _bare(pruned),
            f"at the peak, {_less(pruned, dense)}",
            f"{name}.pruned.peak_bytes",
            pruned.value,
        )
        yield Card(f"Memory on {target}", (figure,), (f"Dense: {_bare(dense)}",))


def _parity(metrics: Measurements) -> Iterator[Card]:
    for target in targets(metrics, "parity"):
        name = f"{parity_name(target, 'pruned')}.max_abs_error"
        error = metrics.get(name)
        if error is None:
            continue
        limit = error.conditions.get("tolerance")
        notes = [f"Limit {number(limit)}"] if isinstance(limit, float) else []
        top1 = metrics.get(f"{parity_name(target, 'pruned')}.top1_agreement")
        if top1 is not None:
            notes.append(f"Same top-1 at {percent(top1.value)} of {top1.samples} positions")
        figure = Figure(number(error.value), f"max abs error of a {error.unit}", name, error.value)
        yield Card(f"{target} against PyTorch", (figure,), tuple(notes))


def shape(phase: str) -> str:
    """`batch × tokens` for an encoder's forward pass; a decoder's phase unchanged.

    >>> shape("forward b8 l128"), shape("decode")
    ('8 × 128', 'decode')
    """
    match = re.fullmatch(r"forward b(\d+) l(\d+)", phase)
    return phase if match is None else " × ".join(match.groups())
