"""Tables of latency, speed-up and latency budgets."""

from __future__ import annotations

from numprune_export.report.schema import Measurement
from numprune_export.report.tables.format import number, percent
from numprune_export.report.tables.table import (
    ABSENT,
    Measurements,
    Tabular,
    interval,
    ratio,
    reading,
)
from numprune_export.report.verdict import significant, timed


def speedup(metrics: Measurements) -> Tabular | None:
    rows = []
    for phase, target, name in timed(metrics):
        metric = metrics[f"{name}.speedup"]
        rows.append(
            (
                f"{phase} on {target}",
                f"{metric.value:.2f}x",
                interval(metric, "{:.2f}".format),
                reading(metrics, f"{name}.ideal"),
                reading(metrics, f"{name}.of_ideal", percent),
                "yes" if significant(metric) else "no",
                reading(metrics, f"{name}.cpu_speedup"),
            )
        )
    header = ("", "speed-up", "95 % interval", "ideal", "of ideal", "significant", "by CPU time")
    note = (
        "Ideal: speed-up by FLOPs, for decode by bytes read per token. A model can exceed it if"
        " it fits a CPU cache that the dense model does not fit."
    )
    return Tabular(header, tuple(rows), note=note) if rows else None


def latency(metrics: Measurements) -> Tabular | None:
    rows = []
    under, spreads, taken = [], [], []
    for phase, target, name in timed(metrics):
        what = f"{phase} on {target}"
        for variant in ("dense", "pruned"):
            keys = ("p50_ms", "p90_ms", "p99_ms", "cpu_ms", "tokens_per_s")
            times = (reading(metrics, f"{name}.{variant}.{key}", number) for key in keys)
            rows.append((f"{what}, {variant}", *times))
        if disturbed(metrics, f"{name}.dense"):
            taken.append(what)
        under += _conditions(metrics, what, name)
        spreads += _spread(metrics, what, name)
    if not rows:
        return None
    busy = (
        f"The machine was busy with other work during {', '.join(taken)}: wall time is far"
        " above CPU time. The speed-up by CPU time is more reliable."
    )
    header = ("", "p50 ms", "p90 ms", "p99 ms", "CPU ms", "tokens/s")
    return Tabular(header, tuple(rows), (*under, *spreads), busy if taken else "")


def _conditions(metrics: Measurements, what: str, name: str) -> list[str]:
    median = metrics.get(f"{name}.dense.p50_ms")
    if median is None:
        return []
    conditions = ", ".join(f"{key} {value}" for key, value in median.conditions.items())
    return [f"{what}: {median.samples} interleaved samples, {conditions}"]


def _spread(metrics: Measurements, what: str, name: str) -> list[str]:
    """The spread between repeated builds, if there are several."""
    spread = metrics.get(f"{name}.pruned.rebuild_spread")
    if spread is None:
        return []
    builds = spread.conditions.get("builds", "several")
    return [f"{what}: the slowest of {builds} builds takes {percent(spread.value)} longer"]


def disturbed(metrics: Measurements, variant: str) -> bool:
    """Whether CPU time is below 80 % of wall time, for CPU runs.

    On a GPU the process normally waits for the device, so the result is False.
    """
    wall, cpu = metrics.get(f"{variant}.p50_ms"), metrics.get(f"{variant}.cpu_ms")
    if wall is None or cpu is None:
        return False
    return wall.conditions.get("device") == "cpu" and cpu.value < 0.8 * wall.value


def budget(metrics: Measurements) -> Tabular | None:
    """Latency budgets: requested, predicted and measured milliseconds."""
    rows = [
        _budget_row(metrics, name)
        for name in metrics
        if name.startswith("budget.") and name.endswith(".limit_ms")
    ]
    header = (
        "", "budget ms", "predicted ms", "measured ms", "predicted of dense", "measured of dense",
        "off the prediction", "table",
    )  # fmt: skip
    note = (
        "Off the prediction: measured against predicted fraction of the dense model's time, timed"
        " in the same rounds; milliseconds also depend on the machine's load."
    )
    return Tabular(header, tuple(rows), note=note) if rows else None


def _budget_row(metrics: Measurements, name: str) -> tuple[str, ...]:
    _, target, *bucket, _ = name.split(".")
    prefix = name.removesuffix("limit_ms")
    fraction = metrics.get(f"{prefix}predicted_ratio")
    forward = f"latency.{target}.forward.{'.'.join(bucket)}"
    dense, pruned = (_median(metrics, f"{forward}.{variant}") for variant in ("dense", "pruned"))
    reached = None if dense is None or pruned is None else ratio(pruned.value, dense.value)
    off = None
    if reached is not None and fraction is not None:
        off = ratio(reached, fraction.value) - 1
    return (
        f"{target}, {' '.join(bucket)}",
        number(metrics[name].value),
        reading(metrics, f"{prefix}predicted_ms", number),
        ABSENT if pruned is None else number(pruned.value),
        ABSENT if fraction is None else percent(fraction.value),
        ABSENT if reached is None else percent(reached),
        ABSENT if off is None else percent(off),
        ABSENT if fraction is None else str(fraction.conditions.get("table", ABSENT)),
    )


def _median(metrics: Measurements, variant: str) -> Measurement | None:
    """The median time used for budgets: CPU time for single-threaded CPU runs, else wall time."""
    wall = metrics.get(f"{variant}.p50_ms")
    if wall is None:
        return None
    under = wall.conditions
    alone = under.get("device") == "cpu" and under.get("threads") == 1
    return metrics.get(f"{variant}.cpu_ms", wall) if alone else wall
