"""A score from the dense model to each artifact: which step costs how much."""

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
from numprune_export.report.verdict import STAGES, score_name, scores

ROW = 26
"""CSS pixels per model."""

_TOLD = {"masked": "masked only", "pruned": "repaired, PyTorch"}


def quality_plots(metrics: Measurements) -> tuple[Plot, ...]:
    """One per score, the one that counts first."""
    found = (_plot(score, by) for score, by in scores(metrics).items())
    return tuple(one for one in found if one is not None)


def plot_name(score: str) -> str:
    """
    >>> plot_name("exact_match")
    'quality-exact-match'
    """
    return "quality-" + "".join(one if one.isalnum() else "-" for one in score)


def _plot(score: str, by: Mapping[str, Measurement]) -> Plot | None:
    shown = [(stage, one) for stage, one in by.items() if math.isfinite(one.value)]
    if not shown:
        return None
    told = score_name(score)
    title = f"{told}: dense to exported"
    title = title[0].upper() + title[1:]
    words = "; ".join(f"{stage} {number(one.value)}" for stage, one in by.items())
    lost = [stage for stage, one in by.items() if not math.isfinite(one.value)]
    caption = "With 95 % intervals; dashed: the dense model."
    if lost:
        caption += f" Not a finite number, so not drawn: {', '.join(lost)}."
    name = plot_name(score)
    svg = draw(
        name, 54 + ROW * len(shown), lambda axes: _paint(axes, shown, told),
        title=title, description=f"{words}. {caption}",
    )  # fmt: skip
    return Plot(name, title, svg, caption)


def _paint(axes: Axes, shown: Sequence[tuple[str, Measurement]], told: str) -> None:
    for row, (stage, one) in enumerate(shown):
        color = PRUNED if stage not in ("dense", "masked") else DENSE
        if one.low is not None and one.high is not None:
            bars(axes, [(one.low, one.high, row)], edgecolor=color, linewidth=3)
        axes.plot([one.value], [row], "o", color=color, markersize=7)
        axes.annotate(
            number(one.value), (one.value, row), xytext=(0, 7), textcoords="offset points",
            ha="center", color=INK,
        )  # fmt: skip
        if stage == "dense":
            axes.axvline(one.value, color=LINE, linestyle="--", linewidth=1, zorder=0)
    axes.set_yticks(
        range(len(shown)),
        [_TOLD.get(stage, stage if stage in STAGES else f"on {stage}") for stage, _ in shown],
    )
    axes.set_ylim(len(shown) - 0.5, -0.8)
    axes.margins(x=0.12)
    _scale(axes, [one.value for _, one in shown])
    axes.set_xlabel(told)


def _scale(axes: Axes, values: Sequence[float]) -> None:
    """Logarithmic where one model is many times worse than another."""
    if min(values) > 0 and max(values) > 8 * min(values):
        logarithmic(axes, min(values), max(values))
    else:
        axes.locator_params(axis="x", nbins=5)
