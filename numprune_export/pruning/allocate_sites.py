"""Allocate: scores of all sites to a plan. Pure: no file, no run folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from numprune_export.calibration.gradients.mask_gradients import UnitGradients
from numprune_export.core.metric import Metric, Metrics
from numprune_export.models.site import Site
from numprune_export.pruning.allocate import budget_search, error_curves, threshold
from numprune_export.pruning.allocate.attention_weight import Divergence, tuned
from numprune_export.pruning.allocate.budget_search import Search
from numprune_export.pruning.allocate.cost import ForwardPass, price_of
from numprune_export.pruning.allocate.error_curves import Curves, Price
from numprune_export.pruning.allocate.latency import budget as latency_budget
from numprune_export.pruning.allocate.latency.budget import Measured
from numprune_export.pruning.allocate.latency.settings import LatencyBudget
from numprune_export.pruning.allocate.rearrange import rearranged
from numprune_export.pruning.allocate.threshold import Allocation
from numprune_export.pruning.plan import Plan
from numprune_export.pruning.score_sites import SiteScore

Method = Allocation | Search | Curves | LatencyBudget


@dataclass(frozen=True)
class CostBasis:
    """The cost that `keep` is a fraction of."""

    dense: Sequence[Site]
    """Sites of the dense model; `keep` is relative to their cost, in later rounds too."""
    forward: ForwardPass
    """The forward pass whose multiply-accumulates are counted."""
    measured: Measured | None = None
    """Latencies of sublayers; needed for a budget in milliseconds, else not read."""


@dataclass(frozen=True)
class Allocated:
    """A plan, and metrics of the allocation."""

    plan: Plan
    metrics: Metrics
    """`budget.*` for a budget in milliseconds, `allocation.*` if candidate plans were compared."""


def allocate(
    scored: Sequence[SiteScore],
    method: Method,
    keep: float,
    basis: CostBasis,
    *,
    gradients: UnitGradients | None = None,
    divergence: Divergence | None = None,
    expect: Callable[[int], None] | None = None,
) -> Allocated:
    """Choose the units to keep.

    Args:
        scored: Every site of the model, from `score_sites`.
        method: The allocation method.
        keep: Fraction of the dense model's cost that may stay.
        basis: Definition of the cost.
        gradients: Gradients of unit masks by site name, for rearrangement within a layer. None or
            empty: no rearrangement.
        divergence: Divergence of the model with a plan from the dense model; needed to choose among
            several values of `Curves.attention`.
        expect: Called with the number of candidate plans that will be compared.

    Raises:
        RecipeError: no plan meets the budget; the message gives the smallest budget that works.
        NumericalError: a score or an error is not finite.
    """
    sites = [site_score.site for site_score in scored]
    columns = {site_score.site.name: site_score.columns for site_score in scored}
    if isinstance(method, Allocation):
        left = _left(Site.cost, basis.dense, sites, keep)
        return Allocated(threshold.allocate(sites, columns, left, method), {})
    if isinstance(method, Curves):
        return _by_curves(scored, method, keep, basis, divergence, expect)
    if isinstance(method, LatencyBudget):
        measured = _measured(basis)
        limit = latency_budget.budget_ms(method, measured, keep)
        fastest = latency_budget.search(method, sites, columns, measured, keep)
        metrics = latency_budget.budget_metrics(method, measured, limit, fastest.predicted_ms)
        plan = fastest.plan
    else:
        costs = budget_search.unit_costs(method, sites, basis.forward)
        plan, metrics = budget_search.plan(method, sites, columns, costs, keep), {}
    if method.rearrange and gradients:
        plan = rearranged(plan, gradients, until_stable=method.until_stable)
    return Allocated(plan, metrics)


def _by_curves(
    scored: Sequence[SiteScore],
    method: Curves,
    keep: float,
    basis: CostBasis,
    divergence: Divergence | None,
    expect: Callable[[int], None] | None,
) -> Allocated:
    sites = [site_score.site for site_score in scored]
    price, left = _price(method, sites, keep, basis)
    plan, metrics = tuned(
        _planner(scored, method, price, left),
        method.candidates,
        divergence or _no_divergence,
        expect or _no_plans,
    )
    if method.timed is not None:
        measured = _measured(basis)
        limit = latency_budget.budget_ms(method.timed, measured, keep)
        predicted = latency_budget.predicted_ms(plan, measured)
        metrics |= latency_budget.budget_metrics(method.timed, measured, limit, predicted)
    return Allocated(plan, metrics)


def _planner(
    scored: Sequence[SiteScore], method: Curves, price: Price, left: float
) -> Callable[[float], Plan]:
    sites = [site_score.site for site_score in scored]
    removals = {site_score.site.name: site_score.removal for site_score in scored}

    def plan(attention: float) -> Plan:
        return error_curves.allocate(
            sites, removals, left, method, attention=attention, price=price
        )

    return plan


def _price(
    method: Curves, sites: Sequence[Site], keep: float, basis: CostBasis
) -> tuple[Price, float]:
    """The cost of a site, and the fraction of the sites' cost that may stay."""
    if method.timed is not None:
        return latency_budget.curve_budget(method, sites, _measured(basis), keep)
    price = price_of(method, basis.forward)
    return price, _left(price, basis.dense, sites, keep)


def _left(price: Price, dense: Sequence[Site], sites: Sequence[Site], keep: float) -> float:
    """`keep` of the dense model's cost as a fraction of the present cost of the sites."""
    whole, now = (sum(price(site, range(site.units)) for site in group) for group in (dense, sites))
    return min(1.0, keep * whole / now)


def _measured(basis: CostBasis) -> Measured:
    assert basis.measured is not None, "a budget in milliseconds needs measured latencies"
    return basis.measured


def _no_plans(_: int) -> None:
    return


def _no_divergence(plan: Plan) -> Metric:
    raise ValueError("several values of `attention` need a `divergence` to choose by")
