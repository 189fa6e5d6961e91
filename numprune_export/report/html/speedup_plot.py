"""Plot of the measured speed-ups and the ideal ones."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from numprune_export.report.html.marks import bars
from numprune_export.report.html.svg import Plot, draw
from numprune_export.report.html.theme import IDEAL, INK, MUTED, PRUNED
from numprune_export.report.html.timed_rows import (
    TimedRow,
    identifier,
    label_rows,
    shape_note,
    target_title,
)
from numprune_export.report.tables.table import Measurements


def speedup_plot(target: str, rows: Sequence[TimedRow], metrics: Measurements) -> Plot | None:
    """Plot the speed-ups with their intervals, and the ideal speed-ups."""
    shown = [row for row in rows if row.value(metrics, "speedup") is not None]
    if not shown:
        return None
    ideals = [row.value(metrics, "ideal") for row in shown]

    def paint(axes: Axes) -> None:
        axes.axvline(1, color=MUTED, linestyle="--", linewidth=1)
        for index, (row, ideal) in enumerate(zip(shown, ideals, strict=True)):
            ratio = metrics[f"{row.name}.speedup"]
            if ratio.low is not None and ratio.high is not None:
                bars(axes, [(ratio.low, ratio.high, index)], edgecolor=PRUNED, linewidth=3)
            axes.plot([ratio.value], [index], "o", color=PRUNED, markersize=7)
            if ideal is not None:
                axes.plot([ideal], [index], "D", markeredgecolor=IDEAL, markerfacecolor="none")
            axes.annotate(
                f"{ratio.value:.2f}x", (ratio.value, index), xytext=(0, 7),
                textcoords="offset points", ha="center", color=INK,
            )  # fmt: skip
        label_rows(axes, shown)
        axes.set_ylim(len(shown) - 0.5, -0.8)
        axes.margins(x=0.1)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("times as fast as dense")

    title = f"Speed-up on {target_title(target)}"
    name = f"speedup-{identifier(target)}"
    words = "; ".join(
        f"{row.phase} {metrics[f'{row.name}.speedup'].value:.2f}x"
        + ("" if ideal is None else f", ideal {ideal:.2f}x")
        for row, ideal in zip(shown, ideals, strict=True)
    )
    caption = "Ratio of medians with its 95 % interval; dashed: as fast as dense." + shape_note(
        shown
    )
    svg = draw(name, 54 + 28 * len(shown), paint, title=title, description=f"{words}. {caption}")
    return Plot(name, title, svg, caption, (("pruned", "measured"), ("ideal", "ideal")))
