"""Plots of the score distributions of kept and removed units in each layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from numprune_export.report.html.marks import bars, logarithmic, ticks
from numprune_export.report.html.plan_plots import Layer, label_layers, layers_of
from numprune_export.report.html.svg import Plot, draw
from numprune_export.report.html.theme import DENSE, PRUNED
from numprune_export.report.schema import QUANTILES, SiteScores, SiteWidth
from numprune_export.report.tables.format import number
from numprune_export.report.tables.table import ABSENT, Tabular

ROW = 20
"""CSS pixels per layer."""

_WIDE_RANGE = 50.0
"""Scores that span a larger factor than this are drawn on a logarithmic scale."""

_LANE = 0.2
"""Offset of kept units above the middle of a layer's row, and of removed units below it."""

_KEY = (("pruned", "kept"), ("dense", "removed"))

_NAMES = {"attention": "attention", "mlp": "MLP"}


def score_plots(plan: Sequence[SiteWidth], scores: Mapping[str, SiteScores]) -> tuple[Plot, ...]:
    """One plot per kind of site that has scores."""
    plots = (_plot(kind, layers_of(plan, kind), scores) for kind in _NAMES)
    return tuple(plot for plot in plots if plot is not None)


def _plot(kind: str, layers: Sequence[Layer], scores: Mapping[str, SiteScores]) -> Plot | None:
    known = [layer for layer in layers if layer.site.site in scores]
    values = [
        value
        for layer in known
        for side in (scores[layer.site.site].kept, scores[layer.site.site].removed)
        for value in side
        if math.isfinite(value)
    ]
    if not values:
        return None
    wide = min(values) > 0 and max(values) > _WIDE_RANGE * min(values)

    def paint(axes: Axes) -> None:
        for side, color, lane in (("kept", PRUNED, -_LANE), ("removed", DENSE, _LANE)):
            rows = [
                (getattr(scores[layer.site.site], side), layer.row + lane)
                for layer in known
                if len(getattr(scores[layer.site.site], side)) == len(QUANTILES)
            ]
            _ranges(axes, rows, color)
        label_layers(axes, layers)
        if wide:
            logarithmic(axes, min(values), max(values))
        else:
            axes.set_xlim(*_padded(min(values), max(values)))
            axes.locator_params(axis="x", nbins=5)
        axes.spines["bottom"].set_visible(True)
        axes.grid(axis="x")
        axes.set_xlabel("score" + (", logarithmic" if wide else ""))

    title = f"Scores of {_NAMES[kind]} units in each layer"
    name = f"scores-{kind}"
    caption = (
        "One row per layer: kept units above removed units. Stroke: median; thick line: 25 to 75 %;"
        " thin line: 5 to 95 %."
    )
    summary = f"{len(known)} layers, scores from {number(min(values))} to {number(max(values))}."
    svg = draw(name, 56 + ROW * len(layers), paint, title=title, description=f"{summary} {caption}")
    return Plot(name, title, svg, caption, _KEY, _table(known, scores))


def _ranges(axes: Axes, rows: Sequence[tuple[Sequence[float], float]], color: str) -> None:
    at = {percent: index for index, percent in enumerate(QUANTILES)}
    look = {"edgecolor": color, "capstyle": "butt"}
    bars(axes, [(of[at[5]], of[at[95]], row) for of, row in rows], linewidth=1.0, **look)
    bars(axes, [(of[at[25]], of[at[75]], row) for of, row in rows], linewidth=4.0, **look)
    middle = [(of[at[50]], row - _LANE, row + _LANE) for of, row in rows]
    ticks(axes, middle, linewidth=1.6, **look)


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.04 * (high - low) or abs(low) or 1.0
    return low - margin, high + margin


def _table(known: Sequence[Layer], scores: Mapping[str, SiteScores]) -> Tabular:
    rows = [
        (f"{layer.number}, {side}", *_numbers(getattr(scores[layer.site.site], side)))
        for layer in known
        for side in ("kept", "removed")
    ]
    names = {0: "lowest", 50: "median", 100: "highest"}
    header = ("layer", *(names.get(percent, f"{percent} %") for percent in QUANTILES))
    return Tabular(header, tuple(rows))


def _numbers(values: Sequence[float]) -> tuple[str, ...]:
    if len(values) != len(QUANTILES):
        return (ABSENT,) * len(QUANTILES)
    return tuple(number(value) for value in values)
