"""How the times of dense and pruned lie, round by round, with the ideal beside them."""

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
    shapes_told,
    told,
)
from numprune_export.report.schema import Report
from numprune_export.report.tables.format import number
from numprune_export.report.tables.table import Measurements

ROW = 34
"""CSS pixels per shape."""

_KEY = (("dense", "dense"), ("pruned", "pruned"), ("ideal", "pruned, ideally"))

_BEYOND = 1.25
"""Times above this many of the slowest median are drawn at the edge."""


def latency_plot(target: str, rows: Sequence[TimedRow], report: Report) -> Plot | None:
    """All rounds, or percentiles where the report holds no rounds."""
    metrics = report.metrics
    lanes = {one.phase: _lanes(one, report) for one in rows}
    shown = [one for one in rows if lanes[one.phase]]
    if not shown:
        return None
    sampled = all(len(report.latency_samples.get(f"{one.name}.dense", ())) > 0 for one in shown)

    far = max(median(times) for one in shown for times in lanes[one.phase].values())
    edge = _BEYOND * max(far, 100.0)
    beyond = any(max(times) > edge for one in shown for times in lanes[one.phase].values())

    def paint(axes: Axes) -> None:
        for row, one in enumerate(shown):
            for variant, times in lanes[one.phase].items():
                color, lane = (DENSE, -0.19) if variant == "dense" else (PRUNED, 0.19)
                _lane(axes, times, row + lane, color, edge, sampled=sampled)
            ideal = one.value(metrics, "ideal")
            if ideal:
                axes.plot(
                    [100 / ideal], [row + 0.19], "D", markeredgecolor=IDEAL, markerfacecolor="none"
                )
        label_rows(axes, shown)
        low = min(min(times) for one in shown for times in lanes[one.phase].values())
        axes.set_xlim(min(0.9 * low, 90.0), edge)
        axes.locator_params(axis="x", nbins=6)
        axes.grid(axis="x")
        axes.set_xlabel("time, % of the dense median")

    title = f"Latency on {told(target)}, dense and pruned"
    name = f"times-{identifier(target)}"
    kind = (
        "Thin strokes: rounds, tall stroke: median."
        if sampled
        else "Lines run from the median to the 99th percentile: this report does not hold the rounds."
    )
    if beyond:
        kind += " Arrow: some took longer still."
    caption = f"{kind}{shapes_told(shown)}"
    words = "; ".join(
        f"{one.phase} {_ms(one, metrics, 'dense')} dense, {_ms(one, metrics, 'pruned')} pruned"
        for one in shown
    )
    svg = draw(name, 54 + ROW * len(shown), paint, title=title, description=f"{words}. {caption}")
    return Plot(name, title, svg, caption, _KEY)


def _lanes(one: TimedRow, report: Report) -> Mapping[str, Sequence[float]]:
    """Times of both variants in % of the dense median: of all rounds, or p50, p90 and p99."""
    found = {}
    for variant in ("dense", "pruned"):
        times: Sequence[float] = report.latency_samples.get(f"{one.name}.{variant}", ())
        if not times:
            keys = ("p50_ms", "p90_ms", "p99_ms")
            read = (one.value(report.metrics, f"{variant}.{key}") for key in keys)
            times = [time for time in read if time is not None]
        found[variant] = times
    if not all(found.values()):
        return {}
    whole = one.value(report.metrics, "dense.p50_ms") or median(found["dense"])
    return {variant: [100 * time / whole for time in times] for variant, times in found.items()}


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


def _ms(one: TimedRow, metrics: Measurements, variant: str) -> str:
    value = one.value(metrics, f"{variant}.p50_ms")
    return "not measured" if value is None else f"{number(value)} ms"
