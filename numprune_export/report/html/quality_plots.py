"""Plots of each score for the dense, masked, pruned and exported models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from numprune_export.report.html.marks import bars, logarithmic
from numprune_export.report.html.svg import Plot, draw
from numprune_export.report.html.theme import DENSE, INK, LINE, PRUNED
from numprune_export.report.schema import Measurement
from numprune_export.report.tables.format import number
from numprune_export.report.tables.table import Measurements
from numprune_export.report.verdict import (
    HEADLINE,
    RATIO,
    STAGES,
    WORST,
    final,
    is_of_source,
    score_name,
    scores,
)

ROW = 26
"""CSS pixels per model."""

_LABELS = {"masked": "masked only", "repaired": "before recovery", "pruned": "compensated, PyTorch"}


def quality_plots(metrics: Measurements) -> tuple[Plot, ...]:
    """One plot per score, the primary score first; one for all text sources."""
    by_score = scores(metrics)
    plots = [_sources(by_score)] if HEADLINE in by_score else []
    plots += [_plot(score, by) for score, by in by_score.items() if not is_of_source(score)]
    return tuple(plot for plot in plots if plot is not None)


def plot_name(score: str) -> str:
    """The id of a score's plot.

    >>> plot_name("exact_match")
    'quality-exact-match'
    """
    return "quality-" + "".join(letter if letter.isalnum() else "-" for letter in score)


def _sources(by_score: Mapping[str, Measurements]) -> Plot | None:
    """The ratio of every source and their mean, on the model to judge by."""
    model = final(by_score[HEADLINE])
    ratios = {
        score.removeprefix(f"{RATIO}."): by[model]
        for score, by in by_score.items()
        if score.startswith(f"{RATIO}.") and score not in (HEADLINE, WORST)
    }
    shown = [
        (name, ratio)
        for name, ratio in (ratios | {"geometric mean": by_score[HEADLINE][model]}).items()
        if math.isfinite(ratio.value)
    ]
    if not shown:
        return None
    title = f"Perplexity by text source, {model} relative to dense"
    words = "; ".join(f"{name} {number(ratio.value)}" for name, ratio in shown)
    caption = "With 95 % intervals, paired by window; dashed: the dense model."

    def paint(axes: Axes) -> None:
        axes.axvline(1.0, color=LINE, linestyle="--", linewidth=1, zorder=0)
        _paint(axes, shown, "perplexity relative to dense", [name for name, _ in shown])

    svg = draw(
        plot_name(HEADLINE), 54 + ROW * len(shown), paint,
        title=title, description=f"{words}. {caption}",
    )  # fmt: skip
    return Plot(plot_name(HEADLINE), title, svg, caption)


def _plot(score: str, by: Mapping[str, Measurement]) -> Plot | None:
    shown = [
        (stage, measurement)
        for stage, measurement in by.items()
        if math.isfinite(measurement.value)
    ]
    if not shown:
        return None
    label = score_name(score)
    title = f"{label}: dense to exported"
    title = title[0].upper() + title[1:]
    words = "; ".join(f"{stage} {number(measurement.value)}" for stage, measurement in by.items())
    lost = [stage for stage, measurement in by.items() if not math.isfinite(measurement.value)]
    caption = "With 95 % intervals; dashed: the dense model."
    if lost:
        caption += f" Not a finite number, so not drawn: {', '.join(lost)}."
    name = plot_name(score)
    rows = [_LABELS.get(stage, stage if stage in STAGES else f"on {stage}") for stage, _ in shown]
    svg = draw(
        name, 54 + ROW * len(shown), lambda axes: _paint(axes, shown, label, rows),
        title=title, description=f"{words}. {caption}",
    )  # fmt: skip
    return Plot(name, title, svg, caption)


def _paint(
    axes: Axes, shown: Sequence[tuple[str, Measurement]], label: str, rows: Sequence[str]
) -> None:
    for row, (stage, measurement) in enumerate(shown):
        color = PRUNED if stage not in ("dense", "masked") else DENSE
        if measurement.low is not None and measurement.high is not None:
            bars(axes, [(measurement.low, measurement.high, row)], edgecolor=color, linewidth=3)
        axes.plot([measurement.value], [row], "o", color=color, markersize=7)
        axes.annotate(
            number(measurement.value), (measurement.value, row), xytext=(0, 7),
            textcoords="offset points", ha="center", color=INK,
        )  # fmt: skip
        if stage == "dense":
            axes.axvline(measurement.value, color=LINE, linestyle="--", linewidth=1, zorder=0)
    axes.set_yticks(range(len(shown)), rows)
    axes.set_ylim(len(shown) - 0.5, -0.8)
    axes.margins(x=0.12)
    _scale(axes, [measurement.value for _, measurement in shown])
    axes.set_xlabel(label)


def _scale(axes: Axes, values: Sequence[float]) -> None:
    """Use a logarithmic axis if the values span more than a factor of 8."""
    if min(values) > 0 and max(values) > 8 * min(values):
        logarithmic(axes, min(values), max(values))
    else:
        axes.locator_params(axis="x", nbins=5)
