"""Tables of sizes, memory, GPU state and wall time per stage."""

from __future__ import annotations

from numprune_export.report.tables.format import measured, percent
from numprune_export.report.tables.table import Measurements, Tabular, ratio, reading


def sides(metrics: Measurements, kind: str) -> Tabular | None:
    """Dense next to pruned, for each quantity of this kind that has both."""
    rows = []
    for name, dense in metrics.items():
        parts = name.split(".")
        if parts[0] != kind or "dense" not in parts:
            continue
        pruned = metrics.get(".".join("pruned" if part == "dense" else part for part in parts))
        if pruned is None:
            continue
        label = " ".join(part for part in parts[1:] if part != "dense").replace("_", " ")
        values = (measured(metric.value, metric.unit) for metric in (dense, pruned))
        rows.append((label, *values, percent(1 - ratio(pruned.value, dense.value))))
    return Tabular(("", "dense", "pruned", "less"), tuple(rows)) if rows else None


def gpu(metrics: Measurements) -> Tabular | None:
    """The GPU's state before and after the benchmark."""
    names = [name.split(".", 2)[2] for name in metrics if name.startswith("gpu.before.")]
    rows = [
        (
            name.rpartition("_")[0].replace("_", " "),
            *(reading(metrics, f"gpu.{moment}.{name}") for moment in ("before", "after")),
        )
        for name in names
    ]
    if not rows:
        return None
    under = metrics[f"gpu.before.{names[0]}"].conditions
    conditions = ", ".join(f"{key} {value}" for key, value in under.items())
    return Tabular(("", "before", "after"), tuple(rows), note=conditions)


def times(metrics: Measurements) -> Tabular | None:
    """Wall time of each stage when it was computed."""
    rows = [
        (name.removeprefix("time.").removesuffix("_s"), f"{metric.value:.1f}")
        for name, metric in metrics.items()
        if name.startswith("time.")
    ]
    return Tabular(("stage", "seconds"), tuple(rows)) if rows else None
