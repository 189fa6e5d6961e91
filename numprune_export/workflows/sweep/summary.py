"""Summarize the reports of a sweep's points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from numprune_export.core.run_folder import REPORT
from numprune_export.measure.environment import Environment
from numprune_export.report import store
from numprune_export.report.schema import Measurement, Report
from numprune_export.workflows.sweep.points import Point
from numprune_export.workflows.sweep.record import Cost, PointError, Sweep, SweptPoint
from numprune_export.workflows.sweep.trade_off import (
    DENSE,
    Quality,
    cost_of,
    costs_of,
    pareto,
    quality_of,
)
from numprune_export.workflows.sweep.work import Failure

POINTS = "points"
DECIMALS = 3
"""Rounding of costs before comparison: files of equal widths differ by a few bytes."""
_KEPT = ("size.", "quality.", "memory.", "latency.")
_DROPPED = (".p90_ms", ".p99_ms", ".cpu_ms", ".tokens_per_s", ".speedup_low", ".speedup_high")


@dataclass(frozen=True)
class Outcomes:
    """Outcomes so far, by point; a point in neither mapping is waiting."""

    reports: Mapping[str, Report]
    failures: Mapping[str, Failure]


def read_report(folder: Path, point: Point) -> Report:
    """Report of a finished point."""
    return store.read(folder / POINTS / point.name / REPORT)


def summarize(recipe: str, points: Sequence[Point], outcomes: Outcomes) -> Sweep:
    """The sweep in its present state."""
    metrics = {name: report.metrics for name, report in outcomes.reports.items()}
    first: Mapping[str, Measurement] = next(iter(metrics.values()), {})
    quality, costs = quality_of(first), costs_of(first) if first else ()
    optimal = _optimal(quality, costs, metrics)
    return Sweep(
        created=datetime.now(timezone.utc),
        recipe_name=recipe,
        quality=None if quality is None else quality.score,
        quality_of=None if quality is None else quality.of,
        lower_is_better=quality is not None and quality.lower_is_better,
        costs=costs,
        points=tuple(_point(point, outcomes, optimal.get(point.name, ())) for point in points),
        dense_optimal=optimal.get(DENSE, ()),
    )


def _point(point: Point, outcomes: Outcomes, optimal: tuple[str, ...]) -> SweptPoint:
    report, failure = outcomes.reports.get(point.name), outcomes.failures.get(point.name)
    return SweptPoint(
        name=point.name,
        folder=f"{POINTS}/{point.name}",
        keep=point.recipe.keep,
        score=point.recipe.score.method,
        method=point.recipe.method,
        query_heads=point.recipe.query_heads,
        status="done" if report else "failed" if failure else "waiting",
        error=None if failure is None else _error(failure),
        metrics={} if report is None else _chosen(report.metrics),
        optimal=optimal,
        machine=None if report is None else _machine(report.environment),
    )


def _error(failure: Failure) -> PointError:
    return PointError(message=failure.message, hint=failure.hint, exit_code=failure.exit_code)


def _chosen(metrics: Mapping[str, Measurement]) -> dict[str, Measurement]:
    """Metrics needed for tables and plots; the report of the point has all."""
    return {
        name: measurement
        for name, measurement in metrics.items()
        if name.startswith(_KEPT) and not name.endswith(_DROPPED)
    }


def _machine(environment: Environment) -> str:
    return ", ".join([environment.cpu, *(gpu.name for gpu in environment.gpus)])


def _optimal(
    quality: Quality | None,
    costs: Sequence[Cost],
    metrics: Mapping[str, Mapping[str, Measurement]],
) -> dict[str, tuple[str, ...]]:
    """Keys of the costs for which each point, or `dense`, is Pareto optimal."""
    if quality is None:
        return {}
    names = [DENSE, *metrics]
    optimal: dict[str, list[str]] = {name: [] for name in names}
    for cost in costs:
        trades = [_dense_trade(quality, metrics)]
        trades += [_trade(quality, cost, measured) for measured in metrics.values()]
        for name, best in zip(names, pareto(trades), strict=True):
            optimal[name] += [cost.key] if best else []
    return {name: tuple(keys) for name, keys in optimal.items()}


def _dense_trade(
    quality: Quality, metrics: Mapping[str, Mapping[str, Measurement]]
) -> tuple[float, float] | None:
    """Costs are relative to the dense model, so its saving is 1."""
    for measured in metrics.values():
        if (dense := quality.of_dense(measured)) is not None:
            return quality.worth(dense), 1.0
    return None


def _trade(
    quality: Quality, cost: Cost, metrics: Mapping[str, Measurement]
) -> tuple[float, float] | None:
    own, measured = metrics.get(quality.metric), cost_of(cost, metrics)
    if own is None or measured is None:
        return None
    saving = measured.value if cost.better == "higher" else 1 / measured.value
    return quality.worth(own.value), round(saving, DECIMALS)
