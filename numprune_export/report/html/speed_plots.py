"""Speed as pictures: for each target, what was exported first, its speed-ups and then its times."""

from __future__ import annotations

from numprune_export.report.html.latency_plot import latency_plot
from numprune_export.report.html.speedup_plot import speedup_plot
from numprune_export.report.html.svg import Plot
from numprune_export.report.html.timed_rows import timed_rows
from numprune_export.report.schema import Report
from numprune_export.report.verdict import targets


def speed_plots(report: Report) -> tuple[Plot, ...]:
    found = []
    for target in targets(report.metrics, "latency"):
        rows = timed_rows(report.metrics, target)
        found += [speedup_plot(target, rows, report.metrics), latency_plot(target, rows, report)]
    return tuple(one for one in found if one is not None)
