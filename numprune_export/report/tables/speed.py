"""Latency, speed-up, and a budget in milliseconds, as tables."""

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
        one = metrics[f"{name}.speedup"]
        rows.append(
            (
                f"{phase} on {target}",
                f"{one.value:.2f}x",
                interval(one, "{:.2f}".format),
                reading(metrics, f"{name}.ideal"),
                reading(metrics, f"{name}.of_ideal", percent),
                "yes" if significant(one) else "no",
                reading(metrics, f"{name}.cpu_speedup"),
            )
        )
    header = ("", "speed-up", "95 % interval", "ideal", "of ideal", "significant", "by CPU time")
    note = (
        "Ideal: FLOPs removed, and for decode the bytes read per token; more than it"
        " is possible where the smaller model fits a cache that the dense one does not."
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
        " above CPU time, so trust the ratio by CPU time more."
    )
    header = ("", "p50 ms", "p90 ms", "p99 ms", "CPU ms", "tokens/s")
    return Tabular(header, tuple(rows), (*under, *spreads), busy if taken else "")


def _conditions(metrics: Measurements, what: str, name: str) -> list[str]:
    median = metrics.get(f"{name}.dense.p50_ms")
    if median is None:
        return []
    told = ", ".join(f"{key} {value}" for key, value in median.conditions.items())
    return [f"{what}: {median.samples} interleaved samples, {told}"]


def _spread(metrics: Measurements, what: str, name: str) -> list[str]:
    """How much the choice of one build among several matters, where several were made."""
    spread = metrics.get(f"{name}.pruned.rebuild_spread")
    if spread is None:
        return []
    builds = spread.conditions.get("builds", "several")
    return [f"{what}: the slowest of {builds} builds takes {percent(spread.value)} longer"]


def disturbed(metrics: Measurements, variant: str) -> bool:
    """Whether this process was kept waiting for a processor more than a fifth of the time.

    Judged for the CPU only: elsewhere a process waits for its device, and should.
    """
    wall, cpu = metrics.get(f"{variant}.p50_ms"), metrics.get(f"{variant}.cpu_ms")
    if wall is None or cpu is None:
        return False
    return wall.conditions.get("device") == "cpu" and cpu.value < 0.8 * wall.value


def budget(metrics: Measurements) -> Tabular | None:
    """A budget in milliseconds: what was asked for, predicted, and measured afterwards."""
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
        "Off the prediction: by the fractions of the dense model's time, which was taken in the same"
        " rounds; milliseconds also follow what else the machine does at the moment."
    )
    return Tabular(header, tuple(rows), note=note) if rows else None


def _budget_row(metrics: Measurements, name: str) -> tuple[str, ...]:
    _, target, *bucket, _ = name.split(".")
    prefix = name.removesuffix("limit_ms")
    fraction = metrics.get(f"{prefix}predicted_ratio")
    forward = f"latency.{target}.forward.{'.'.join(bucket)}"
    dense, pruned = (_median(metrics, f"{forward}.{one}") for one in ("dense", "pruned"))
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
    """As the table behind a budget was timed: by processor time where one thread works."""
    wall = metrics.get(f"{variant}.p50_ms")
    if wall is None:
        return None
    under = wall.conditions
    alone = under.get("device") == "cpu" and under.get("threads") == 1
    return metrics.get(f"{variant}.cpu_ms", wall) if alone else wall
