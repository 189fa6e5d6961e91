"""How the times of dense and pruned lie, round by round, and the speed-ups that follow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from matplotlib.axes import Axes

from numprune_export.report.html.marks import bars, ticks
from numprune_export.report.html.shape import shape
from numprune_export.report.html.svg import Plot, draw
from numprune_export.report.html.theme import DENSE, IDEAL, INK, MUTED, PRUNED
from numprune_export.report.quantity import number
from numprune_export.report.schema import Report
from numprune_export.report.tabular import Measurements
from numprune_export.report.verdict import is_reference, targets, timed

ROW = 34
"""CSS pixels per shape."""

_KEY = (("dense", "dense"), ("pruned", "pruned"), ("ideal", "pruned, ideally"))

_BEYOND = 1.25
"""Times above this many of the slowest median are drawn at the edge."""


@dataclass(frozen=True)
class _Timed:
    """One phase or shape on one target."""

    phase: str
    name: str
    """What its metrics begin with."""

    def value(self, metrics: Measurements, key: str) -> float | None:
        one = metrics.get(f"{self.name}.{key}")
        return one.value if one is not None and math.isfinite(one.value) else None


def latency_plots(report: Report) -> tuple[Plot, ...]:
    """For each target, what was exported first: its speed-ups, then its times."""
    found = []
    for target in targets(report.metrics, "latency"):
        rows = [
            _Timed(shape(phase), name)
            for phase, one, name in timed(report.metrics)
            if one == target
        ]
        found += [_speedups(target, rows, report.metrics), _times(target, rows, report)]
    return tuple(one for one in found if one is not None)


def _by(target: str) -> str:
    if target == "torch":
        return "PyTorch"
    return f"PyTorch ({target})" if is_reference(target) else target


def _shapes_told(rows: Sequence[_Timed]) -> str:
    return " Rows: batch × tokens." if any("×" in one.phase for one in rows) else ""


def _label_rows(axes: Axes, rows: Sequence[_Timed]) -> None:
    axes.set_yticks(range(len(rows)), [one.phase for one in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)


def _speedups(target: str, rows: Sequence[_Timed], metrics: Measurements) -> Plot | None:
    shown = [one for one in rows if one.value(metrics, "speedup") is not None]
    if not shown:
        return None
    ideals = [one.value(metrics, "ideal") for one in shown]

    def paint(axes: Axes) -> None:
        axes.axvline(1, color=MUTED, linestyle="--", linewidth=1)
        for row, (one, ideal) in enumerate(zip(shown, ideals, strict=True)):
            ratio = metrics[f"{one.name}.speedup"]
            if ratio.low is not None and ratio.high is not None:
                bars(axes, [(ratio.low, ratio.high, row)], edgecolor=PRUNED, linewidth=3)
            axes.plot([ratio.value], [row], "o", color=PRUNED, markersize=7)
            if ideal is not None:
                axes.plot([ideal], [row], "D", markeredgecolor=IDEAL, markerfacecolor="none")
            axes.annotate(
                f"{ratio.value:.2f}x", (ratio.value, row), xytext=(0, 7),
                textcoords="offset points", ha="center", color=INK,
            )  # fmt: skip
        _label_rows(axes, shown)
        axes.set_ylim(len(shown) - 0.5, -0.8)
        axes.margins(x=0.1)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("times as fast as dense")

    title = f"Speed-up on {_by(target)}"
    name = f"speedup-{_id(target)}"
    words = "; ".join(
        f"{one.phase} {metrics[f'{one.name}.speedup'].value:.2f}x"
        + ("" if ideal is None else f", ideal {ideal:.2f}x")
        for one, ideal in zip(shown, ideals, strict=True)
    )
    caption = "Ratio of medians with its 95 % interval; dashed: as fast as dense." + _shapes_told(
        shown
    )
    svg = draw(name, 54 + 28 * len(shown), paint, title=title, description=f"{words}. {caption}")
    return Plot(name, title, svg, caption, (("pruned", "measured"), ("ideal", "ideal")))


def _times(target: str, rows: Sequence[_Timed], report: Report) -> Plot | None:
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
        _label_rows(axes, shown)
        low = min(min(times) for one in shown for times in lanes[one.phase].values())
        axes.set_xlim(min(0.9 * low, 90.0), edge)
        axes.locator_params(axis="x", nbins=6)
        axes.grid(axis="x")
        axes.set_xlabel("time, % of the dense median")

    title = f"Latency on {_by(target)}, dense and pruned"
    name = f"times-{_id(target)}"
    kind = (
        "Thin strokes: rounds, tall stroke: median."
        if sampled
        else "Lines run from the median to the 99th percentile: this report does not hold the rounds."
    )
    if beyond:
        kind += " Arrow: some took longer still."
    caption = f"{kind}{_shapes_told(shown)}"
    words = "; ".join(
        f"{one.phase} {_ms(one, metrics, 'dense')} dense, {_ms(one, metrics, 'pruned')} pruned"
        for one in shown
    )
    svg = draw(name, 54 + ROW * len(shown), paint, title=title, description=f"{words}. {caption}")
    return Plot(name, title, svg, caption, _KEY)


def _lanes(one: _Timed, report: Report) -> Mapping[str, Sequence[float]]:
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
    inside = [min(time, edge) for time in times]
    if not sampled:
        bars(axes, [(inside[0], inside[-1], y)], edgecolor=color, linewidth=2)
        ticks(axes, [(inside[0], y - 0.14, y + 0.14)], edgecolor=color, linewidth=2.5)
        return
    strokes = [(time, y - 0.11, y + 0.11) for time in inside]
    ticks(axes, strokes, edgecolor=color, linewidth=1, alpha=0.7)
    ticks(axes, [(median(times), y - 0.17, y + 0.17)], edgecolor=color, linewidth=2.5)
    if any(time > edge for time in times):
        axes.plot([edge], [y], ">", color=color, markersize=5, clip_on=False)


def _ms(one: _Timed, metrics: Measurements, variant: str) -> str:
    value = one.value(metrics, f"{variant}.p50_ms")
    return "not measured" if value is None else f"{number(value)} ms"


def _id(text: str) -> str:
    return "".join(one if one.isalnum() else "-" for one in text)
