"""sweep.svg: quality against each cost, with the Pareto front as a line."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import Any

from numprune_export.report.verdict import score_name
from numprune_export.workflows.sweep.page import quality_in
from numprune_export.workflows.sweep.record import Cost, Sweep, SweptPoint
from numprune_export.workflows.sweep.trade_off import Quality, cost_of

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Palette of Okabe and Ito, distinguishable with colour blindness."""
_MARKERS = "osD^vP"


def draw(sweep: Sweep) -> str | None:
    """One panel per cost as deterministic SVG text; None: nothing was measured."""
    quality = quality_in(sweep)
    done = [point for point in sweep.points if point.status == "done"]
    if quality is None or not done:
        return None
    import matplotlib
    from matplotlib.figure import Figure

    settings: Any = {"svg.hashsalt": "sweep", "svg.fonttype": "none", "font.family": "sans-serif"}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(4.6 * len(sweep.costs), 4.2), layout="constrained")
        axes = figure.subplots(1, len(sweep.costs), sharey=True, squeeze=False)[0]
        for axis, cost in zip(axes, sweep.costs, strict=True):
            _panel(axis, sweep, cost, quality, done)
        axes[0].set_ylabel(_quality_label(quality))
        if quality.lower_is_better:
            axes[0].invert_yaxis()
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
        text = StringIO()
        title = f"Sweep of {sweep.recipe_name}: {score_name(quality.score)} against speed and size"
        figure.savefig(text, format="svg", metadata={"Date": None, "Title": title})
    return text.getvalue()


def _quality_label(quality: Quality) -> str:
    better = "lower is better" if quality.lower_is_better else "higher is better"
    return f"{score_name(quality.score)} of {quality.of} ({better}, up is better)"


def _panel(
    axis: Any, sweep: Sweep, cost: Cost, quality: Quality, done: Sequence[SweptPoint]
) -> None:
    series: dict[str, list[SweptPoint]] = {}
    for point in done:
        series.setdefault(_series(point), []).append(point)
    for index, (name, points) in enumerate(series.items()):
        look = {"color": _COLOURS[index % 6], "marker": _MARKERS[index % 6], "label": name}
        _dots(axis, cost, quality, points, look)
    dense = quality.of_dense(done[0].metrics)
    front = [
        at for point in done if cost.key in point.optimal and (at := _at(cost, quality, point))
    ]
    if dense is not None:
        axis.plot([1], [dense], marker="*", markersize=13, color="black", ls="", label="dense")
        front += [(1.0, dense)] if cost.key in sweep.dense_optimal else []
    front.sort()
    axis.plot(*zip(*front, strict=True), color="0.6", lw=1, zorder=0) if front else None
    axis.set_xlabel(cost.label)
    axis.grid(alpha=0.3)
    if cost.better == "lower":
        axis.invert_xaxis()


def _dots(
    axis: Any, cost: Cost, quality: Quality, points: Sequence[SweptPoint], look: dict[str, Any]
) -> None:
    label = look.pop("label")
    for point in points:
        at = _at(cost, quality, point)
        if at is None:
            continue
        own, saving = point.metrics[quality.metric], cost_of(cost, point.metrics)
        assert saving is not None
        axis.errorbar(
            *at,
            xerr=_bars(saving.value, saving.low, saving.high),
            yerr=_bars(own.value, own.low, own.high),
            fillstyle="full" if cost.key in point.optimal else "none",
            ls="",
            elinewidth=0.8,
            label=label,
            **look,
        )
        label = None
        axis.annotate(f"{point.keep:g}", at, textcoords="offset points", xytext=(5, 5), fontsize=8)


def _bars(value: float, low: float | None, high: float | None) -> list[list[float]] | None:
    if low is None or high is None:
        return None
    return [[max(value - low, 0)], [max(high - value, 0)]]


def _at(cost: Cost, quality: Quality, point: SweptPoint) -> tuple[float, float] | None:
    saving, own = cost_of(cost, point.metrics), point.metrics.get(quality.metric)
    return None if saving is None or own is None else (saving.value, own.value)


def _series(point: SweptPoint) -> str:
    name = point.score if point.method is None else f"{point.method} ({point.score})"
    return name if point.query_heads == "grouped" else f"{name}, single query heads"
