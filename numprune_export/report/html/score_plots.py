"""How scores of kept and of removed units lie in each layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from numprune_export.report.html.marks import bars, logarithmic, ticks
from numprune_export.report.html.plan_plots import Layer, label_layers, layers
from numprune_export.report.html.svg import Plot, draw
from numprune_export.report.html.theme import DENSE, PRUNED
from numprune_export.report.schema import QUANTILES, SiteScores, SiteWidth
from numprune_export.report.tables.format import number
from numprune_export.report.tables.table import ABSENT, Tabular

ROW = 20
"""CSS pixels per layer."""

_WIDE_RANGE = 50.0
"""Scores further apart than this are drawn on a logarithmic scale."""

_LANE = 0.2
"""Kept units stand this far above the middle of a layer's row, removed ones below."""

_KEY = (("pruned", "stay"), ("dense", "go"))

_NAMES = {"attention": "attention", "mlp": "MLP"}


def score_plots(plan: Sequence[SiteWidth], scores: Mapping[str, SiteScores]) -> tuple[Plot, ...]:
    """One per kind of site that has scores."""
    found = (_plot(kind, layers(plan, kind), scores) for kind in _NAMES)
    return tuple(one for one in found if one is not None)


def _plot(kind: str, found: Sequence[Layer], scores: Mapping[str, SiteScores]) -> Plot | None:
    known = [one for one in found if one.site.site in scores]
    values = [
        value
        for one in known
        for side in (scores[one.site.site].kept, scores[one.site.site].removed)
        for value in side
        if math.isfinite(value)
    ]
    if not values:
        return None
    wide = min(values) > 0 and max(values) > _WIDE_RANGE * min(values)

    def paint(axes: Axes) -> None:
        for side, color, lane in (("kept", PRUNED, -_LANE), ("removed", DENSE, _LANE)):
            rows = [
                (getattr(scores[one.site.site], side), one.row + lane)
                for one in known
                if len(getattr(scores[one.site.site], side)) == len(QUANTILES)
            ]
            _ranges(axes, rows, color)
        label_layers(axes, found)
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
        "One row per layer: units that stay above units that go. Stroke: median, thick: the middle"
        " half, thin: 5 to 95 %."
    )
    told = f"{len(known)} layers, scores from {number(min(values))} to {number(max(values))}."
    svg = draw(name, 56 + ROW * len(found), paint, title=title, description=f"{told} {caption}")
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
        (f"{one.number}, {side}", *_numbers(getattr(scores[one.site.site], side)))
        for one in known
        for side in ("kept", "removed")
    ]
    names = {0: "lowest", 50: "median", 100: "highest"}
    header = ("layer", *(names.get(percent, f"{percent} %") for percent in QUANTILES))
    return Tabular(header, tuple(rows))


def _numbers(found: Sequence[float]) -> tuple[str, ...]:
    if len(found) != len(QUANTILES):
        return (ABSENT,) * len(QUANTILES)
    return tuple(number(value) for value in found)
