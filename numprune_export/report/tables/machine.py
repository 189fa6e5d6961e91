"""Tables of sizes, memory, GPU state and cost per stage."""

from __future__ import annotations

from numprune_export.report.schema import Report
from numprune_export.report.tables.format import measured, percent, size
from numprune_export.report.tables.table import ABSENT, Measurements, Tabular, ratio, reading


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


def stages(report: Report) -> Tabular | None:
    """What each stage took when it was computed; of older reports its wall time."""
    figures = report.stages
    if not figures:
        return _times(report.metrics)
    on_device = any(stage.device_peak_bytes is not None for stage in figures.values())
    header = ("stage", "seconds", "processor seconds", "host peak")
    rows = [
        (
            name,
            f"{stage.seconds:.1f}",
            ABSENT if stage.processor_seconds is None else f"{stage.processor_seconds:.1f}",
            _size(stage.host_peak_bytes),
            *([_size(stage.device_peak_bytes)] if on_device else []),
        )
        for name, stage in figures.items()
    ]
    total = sum(stage.seconds for stage in figures.values())
    rows.append(("total", f"{total:.1f}", *[ABSENT] * (len(header) - 2 + on_device)))
    return Tabular((*header, *(["device peak"] if on_device else [])), tuple(rows))


def _size(size_bytes: int | None) -> str:
    return ABSENT if size_bytes is None else size(size_bytes)


def _times(metrics: Measurements) -> Tabular | None:
    rows = [
        (name.removeprefix("time.").removesuffix("_s"), f"{metric.value:.1f}")
        for name, metric in metrics.items()
        if name.startswith("time.")
    ]
    return Tabular(("stage", "seconds"), tuple(rows)) if rows else None
