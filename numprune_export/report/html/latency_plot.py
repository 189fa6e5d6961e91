"""Plot of dense and pruned latency: every round, the medians and the ideal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from matplotlib.axes import Axes

from numprune_export.report.html.marks import bars, ticks
from numprune_export.report.html.svg import Plot, draw
from numprune_export.report.html.theme import DENSE, IDEAL, PRUNED
from numprune_export.report.html.timed_rows import (
    TimedRow,
    identifier,
    label_rows,
    shape_note,
    target_title,
)
from numprune_export.report.schema import Report
from numprune_export.report.tables.format import number
from numprune_export.report.tables.table import Measurements

ROW = 34
"""CSS pixels per shape."""

_KEY = (("dense", "dense"), ("pruned", "pruned"), ("ideal", "pruned, ideal"))

_BEYOND = 1.25
"""Times above this multiple of the slowest median are drawn at the edge."""


def latency_plot(target: str, rows: Sequence[TimedRow], report: Report) -> Plot | None:
    """Plot all rounds, or percentiles if the report does not hold the rounds."""
    metrics = report.metrics
    lanes = {row.phase: _lanes(row, report) for row in rows}
    shown = [row for row in rows if lanes[row.phase]]
    if not shown:
        return None
    sampled = all(len(report.latency_samples.get(f"{row.name}.dense", ())) > 0 for row in shown)

    far = max(median(times) for row in shown for times in lanes[row.phase].values())
    edge = _BEYOND * max(far, 100.0)
    beyond = any(max(times) > edge for row in shown for times in lanes[row.phase].values())

    def paint(axes: Axes) -> None:
        for index, row in enumerate(shown):
            for variant, times in lanes[row.phase].items():
                color, lane = (DENSE, -0.19) if variant == "dense" else (PRUNED, 0.19)
                _lane(axes, times, index + lane, color, edge, sampled=sampled)
            ideal = row.value(metrics, "ideal")
            if ideal:
                axes.plot(
                    [100 / ideal],
                    [index + 0.19],
                    "D",
                    markeredgecolor=IDEAL,
                    markerfacecolor="none",
                )
        label_rows(axes, shown)
        low = min(min(times) for row in shown for times in lanes[row.phase].values())
        axes.set_xlim(min(0.9 * low, 90.0), edge)
        axes.locator_params(axis="x", nbins=6)
        axes.grid(axis="x")
        axes.set_xlabel("time, % of the dense median")

    title = f"Latency on {target_title(target)}, dense and pruned"
    name = f"times-{identifier(target)}"
    kind = (
        "Thin strokes: rounds, tall stroke: median."
        if sampled
        else "Lines run from the median to the 99th percentile: this report does not hold the rounds."
    )
    if beyond:
        kind += " Arrow: some rounds took longer."
    caption = f"{kind}{shape_note(shown)}"
    words = "; ".join(
        f"{row.phase} {_ms(row, metrics, 'dense')} dense, {_ms(row, metrics, 'pruned')} pruned"
        for row in shown
    )
    svg = draw(name, 54 + ROW * len(shown), paint, title=title, description=f"{words}. {caption}")
    return Plot(name, title, svg, caption, _KEY)


def _lanes(row: TimedRow, report: Report) -> Mapping[str, Sequence[float]]:
    """Times of both variants in % of the dense median: all rounds, or p50, p90 and p99."""
    lanes = {}
    for variant in ("dense", "pruned"):
        times: Sequence[float] = report.latency_samples.get(f"{row.name}.{variant}", ())
        if not times:
            keys = ("p50_ms", "p90_ms", "p99_ms")
            read = (row.value(report.metrics, f"{variant}.{key}") for key in keys)
            times = [time for time in read if time is not None]
        lanes[variant] = times
    if not all(lanes.values()):
        return {}
    whole = row.value(report.metrics, "dense.p50_ms") or median(lanes["dense"])
    return {variant: [100 * time / whole for time in times] for variant, times in lanes.items()}


def _lane(
    axes: Axes, times: Sequence[float], y: float, color: str, edge: float, *, sampled: bool
) -> None:
    if sampled:
        strokes = [(time, y - 0.11, y + 0.11) for time in times]
        ticks(axes, strokes, edgecolor=color, linewidth=1, alpha=0.7)
        ticks(axes, [(median(times), y - 0.17, y + 0.17)], edgecolor=color, linewidth=2.5)
    else:
        bars(axes, [(times[0], times[-1], y)], edgecolor=color, linewidth=2)
        ticks(axes, [(times[0], y - 0.14, y + 0.14)], edgecolor=color, linewidth=2.5)
    if any(time > edge for time in times):
        axes.plot([edge], [y], ">", color=color, markersize=5, clip_on=False)


def _ms(row: TimedRow, metrics: Measurements, variant: str) -> str:
    value = row.value(metrics, f"{variant}.p50_ms")
    return "not measured" if value is None else f"{number(value)} ms"
