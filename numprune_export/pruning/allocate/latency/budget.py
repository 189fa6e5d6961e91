"""Latency budget in milliseconds, and the predicted latency of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from numprune_export.core.metric import Metric, Metrics
from numprune_export.models.site import Site
from numprune_export.pruning.allocate.budget import Budget
from numprune_export.pruning.allocate.budget_search import unit_importance
from numprune_export.pruning.allocate.error_curves import Curves, Price
from numprune_export.pruning.allocate.latency.curve import fitted, predict
from numprune_export.pruning.allocate.latency.search import LatencyPlan, search_curves
from numprune_export.pruning.allocate.latency.settings import LatencyBudget, Timing
from numprune_export.pruning.allocate.latency.table import LatencyTable
from numprune_export.pruning.plan import Plan


@dataclass(frozen=True)
class Measured:
    """A latency table and its age."""

    table: LatencyTable
    age_s: float | None
    """Age of a table from the cache; None: measured in this run."""


def search(
    settings: LatencyBudget,
    sites: Sequence[Site],
    scores: Mapping[str, Float[Tensor, " n"]],
    measured: Measured,
    keep: float,
) -> LatencyPlan:
    """The plan of the highest importance within the latency budget.

    Raises:
        RecipeError: no plan meets the budget; the message gives the smallest budget that works.
    """
    importance = unit_importance(sites, scores)
    budget, table = budget_ms(settings, measured, keep), measured.table
    curves = fitted(sites, table)
    return search_curves(
        sites, importance, curves, budget, fixed_ms=table.empty_ms, widths=settings
    )


def curve_budget(
    settings: Curves, sites: Sequence[Site], measured: Measured, keep: float
) -> tuple[Price, float]:
    """The latency of units as a cost function, and the fraction of the sublayers' latency that may
    stay.

    Raises:
        RecipeError: no plan meets the budget; the message gives the smallest budget that works.
    """
    table, times = measured.table, fitted(sites, measured.table)
    limit = budget_ms(settings.timing, measured, keep)
    least = predict(sites, [settings.counts(site)[0] for site in sites], times)
    Budget(limit, "ms", settings.advice).check(least + table.empty_ms, table.dense_ms)
    left = (limit - table.empty_ms) / (table.dense_ms - table.empty_ms)

    def price(site: Site, kept: Sequence[int]) -> float:
        return times[site.kind](len(kept))

    return price, min(1.0, left)


def predicted_ms(plan: Plan, measured: Measured) -> float:
    """Predicted latency of the whole model, in milliseconds."""
    counts = [len(plan.kept[site.name]) for site in plan.sites]
    times = fitted(plan.sites, measured.table)
    return predict(plan.sites, counts, times) + measured.table.empty_ms


def budget_ms(settings: Timing, measured: Measured, keep: float) -> float:
    """The latency budget of the whole model, in milliseconds."""
    return settings.milliseconds or keep * measured.table.dense_ms


def budget_metrics(
    settings: Timing, measured: Measured, budget: float, predicted: float
) -> Metrics:
    """`budget.<target>.<bucket>.{limit_ms,dense_ms,predicted_ms,predicted_ratio}`."""
    name = f"budget.{settings.target}.b{settings.batch}.l{settings.length}"
    age = measured.age_s
    under = {"table": "measured" if age is None else f"found, {age / 3600:.2f} h old"}
    dense_ms = measured.table.dense_ms
    return {
        f"{name}.limit_ms": Metric(budget, "ms", 1),
        f"{name}.dense_ms": Metric(dense_ms, "ms", settings.rounds, conditions=under),
        f"{name}.predicted_ms": Metric(predicted, "ms", settings.rounds, conditions=under),
        f"{name}.predicted_ratio": Metric(
            predicted / dense_ms, "of the dense model's time", settings.rounds, conditions=under
        ),
    }
