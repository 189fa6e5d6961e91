"""What came of a sweep's points, put together from their reports."""

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
"""Of a cost, when points are compared: files of equal widths differ by a few bytes."""
_KEPT = ("size.", "quality.", "memory.", "latency.")
_DROPPED = (".p90_ms", ".p99_ms", ".cpu_ms", ".tokens_per_s", ".speedup_low", ".speedup_high")


@dataclass(frozen=True)
class Outcomes:
    """What is known so far, by point; a point that is in neither is still waiting."""

    reports: Mapping[str, Report]
    failures: Mapping[str, Failure]


def read_report(folder: Path, point: Point) -> Report:
    """Of a finished point."""
    return store.read(folder / POINTS / point.name / REPORT)


def summarize(recipe: str, points: Sequence[Point], found: Outcomes) -> Sweep:
    """The whole sweep as it stands."""
    metrics = {name: one.metrics for name, one in found.reports.items()}
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
        points=tuple(_point(one, found, optimal.get(one.name, ())) for one in points),
        dense_optimal=optimal.get(DENSE, ()),
    )


def _point(point: Point, found: Outcomes, optimal: tuple[str, ...]) -> SweptPoint:
    report, failure = found.reports.get(point.name), found.failures.get(point.name)
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
    """Enough for tables and plots; the point's report has the rest."""
    return {
        name: one
        for name, one in metrics.items()
        if name.startswith(_KEPT) and not name.endswith(_DROPPED)
    }


def _machine(environment: Environment) -> str:
    return ", ".join([environment.cpu, *(one.name for one in environment.gpus)])


def _optimal(
    quality: Quality | None,
    costs: Sequence[Cost],
    metrics: Mapping[str, Mapping[str, Measurement]],
) -> dict[str, tuple[str, ...]]:
    """By point, and under `dense`, the costs at which nothing beats it."""
    if quality is None:
        return {}
    names = [DENSE, *metrics]
    found: dict[str, list[str]] = {name: [] for name in names}
    for cost in costs:
        trades = [_dense_trade(quality, metrics)]
        trades += [_trade(quality, cost, one) for one in metrics.values()]
        for name, best in zip(names, pareto(trades), strict=True):
            found[name] += [cost.key] if best else []
    return {name: tuple(keys) for name, keys in found.items()}


def _dense_trade(
    quality: Quality, metrics: Mapping[str, Mapping[str, Measurement]]
) -> tuple[float, float] | None:
    """Every cost is relative to the dense model's, so its own is 1."""
    for one in metrics.values():
        if quality.dense_metric in one:
            return quality.worth(one[quality.dense_metric].value), 1.0
    return None


def _trade(
    quality: Quality, cost: Cost, metrics: Mapping[str, Measurement]
) -> tuple[float, float] | None:
    own, found = metrics.get(quality.metric), cost_of(cost, metrics)
    if own is None or found is None:
        return None
    saving = found.value if cost.better == "higher" else 1 / found.value
    return quality.worth(own.value), round(saving, DECIMALS)
