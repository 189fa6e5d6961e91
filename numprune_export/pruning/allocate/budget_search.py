"""Search: the plan of the highest importance under a budget.

Source: Kwon et al. 2022 (arXiv:2204.09656, §4.1, Alg. 1).

With a diagonal Fisher matrix the value of a plan is the sum of its kept units' importance, and
units fall into classes of equal cost: heads and neurons. The best n units of one class are its n
most important ones, and the rest of the budget buys the best k of the other class; trying every n
gives the exact optimum. Budget and costs may be multiply-accumulates, parameters or bytes.

Floors and alignment keep this form: a site's units are bought in steps, best first; the floor is a
mandatory step. All steps of a class must cost the same. Where alignment leaves a site a smaller
last step, or units of one kind differ in cost, there are more than two classes. Then `_by_density`
buys steps by importance per cost, which is at most one step below the optimum of the relaxed
problem, and spends the rest on any step that still fits.

Differences from the publication: no plan may exceed the budget (the released code admits a plan
whose heads alone exceed it), and a plan without heads is tried too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat

from numprune_export.core.errors import NumericalError, RecipeError
from numprune_export.models.site import Site
from numprune_export.pruning.allocate import cost
from numprune_export.pruning.allocate.budget import Budget
from numprune_export.pruning.allocate.cost import ForwardPass, UnitCosts
from numprune_export.pruning.allocate.widths import Widths
from numprune_export.pruning.plan import Plan

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class _Step:
    """Units of one site that are bought together, after all earlier steps of the site."""

    site: int
    units: int
    value: float
    cost: int
    density: float
    """Value per cost, at most that of the site's earlier steps."""


def search(
    sites: Sequence[Site],
    importance: Mapping[str, Float[Tensor, " units"]],
    costs: UnitCosts,
    budget: float,
    widths: Widths = Widths(),  # noqa: B008  (frozen settings)
) -> Plan:
    """The plan of the highest summed importance whose cost is at most `budget`.

    Args:
        sites: All prunable sites.
        importance: By site name, one value per unit, not negative; higher is kept first.
        costs: By site name, the cost of one unit.
        budget: In the unit of `costs`.
        widths: Floors and alignment.

    Raises:
        RecipeError: the floors alone cost more; the message gives the smallest budget that works.
        NumericalError: an importance is not finite.
    """
    orders = [ranked(site, importance[site.name]) for site in sites]
    floors = [widths.counts(site)[0] for site in sites]
    least = smallest_budget(sites, costs, widths)
    Budget(budget, advice=widths.advice).check(least, cost.whole(sites, costs))
    left = math.floor(budget) - least
    steps = [
        step
        for index, site in enumerate(sites)
        for step in _steps(
            index, importance[site.name], orders[index], costs[site.name], widths.counts(site)
        )
    ]
    bought = _exact(steps, left) if _two_classes(steps) else _by_density(steps, left)
    counts = list(floors)
    for step in bought:
        counts[step.site] += step.units
    return plan_of(sites, orders, counts)


def smallest_budget(sites: Sequence[Site], costs: UnitCosts, widths: Widths = Widths()) -> int:  # noqa: B008
    """Total cost of the floors of all sites; no plan costs less."""
    return sum(widths.counts(site)[0] * costs[site.name] for site in sites)


def ranked(site: Site, importance: Float[Tensor, " units"]) -> list[int]:
    """Units by falling importance; the lower index comes first among equals.

    Raises:
        NumericalError: an importance is not finite.
    """
    if not bool(importance.isfinite().all()):
        raise NumericalError(
            f"importance of `{site.name}` is not finite",
            hint="check the checkpoint and the calibration data",
        )
    order: list[int] = importance.double().sort(descending=True, stable=True).indices.tolist()
    return order


def unit_importance(
    sites: Sequence[Site], scores: Mapping[str, Float[Tensor, " n"]]
) -> dict[str, Float[Tensor, " units"]]:
    """By site name, the mean score of a unit's columns, fp64."""
    return {
        site.name: scores[site.name].double().reshape(site.units, site.consumer_width).mean(1)
        for site in sites
    }


def plan_of(sites: Sequence[Site], orders: Sequence[Sequence[int]], counts: Sequence[int]) -> Plan:
    """The plan that keeps the first `count` units of each site's order."""
    kept = {
        site.name: tuple(sorted(order[:count]))
        for site, order, count in zip(sites, orders, counts, strict=True)
    }
    return Plan(tuple(sites), kept)


def _steps(
    index: int, importance: Tensor, order: Sequence[int], cost: int, counts: Sequence[int]
) -> list[_Step]:
    steps, density = [], math.inf
    for count, more in pairwise(counts):
        value = math.fsum(importance[order[count:more]].double().tolist())
        # Rounding must not order a step before an earlier step of its site.
        density = min(density, value / ((more - count) * cost))
        steps.append(_Step(index, more - count, value, (more - count) * cost, density))
    return steps


def _two_classes(steps: Sequence[_Step]) -> bool:
    """Whether steps have at most two distinct costs, and the steps of one site the same cost."""
    prices = {(step.site, step.cost) for step in steps}
    return len(prices) == len({site for site, _ in prices}) and len({c for _, c in prices}) <= 2


def _exact(steps: Sequence[_Step], left: int) -> list[_Step]:
    """Try every n of the more expensive class, each with the cheaper steps that the rest pays
    for."""
    classes = sorted({step.cost for step in steps})
    if len(classes) < 2:
        return _by_value(steps, classes[0])[: left // classes[0]] if classes else []
    dear, cheap = _by_value(steps, classes[1]), _by_value(steps, classes[0])
    values = [[0.0, *accumulate(step.value for step in group)] for group in (dear, cheap)]
    best, choice = -math.inf, (0, 0)
    for n in range(min(len(dear), left // classes[1]) + 1):
        k = min(len(cheap), (left - n * classes[1]) // classes[0])
        if values[0][n] + values[1][k] > best:
            best, choice = values[0][n] + values[1][k], (n, k)
    return dear[: choice[0]] + cheap[: choice[1]]


def _by_value(steps: Sequence[_Step], cost: int) -> list[_Step]:
    # The sort is stable, and a site's steps never rise in value: they keep their order.
    return sorted((step for step in steps if step.cost == cost), key=lambda step: -step.value)


def _by_density(steps: Sequence[_Step], left: int) -> list[_Step]:
    """Buy steps by falling importance per cost; a site whose next step does not fit is closed."""
    bought, closed = [], set()
    for step in sorted(steps, key=lambda step: -step.density):
        if step.site in closed:
            continue
        if step.cost <= left:
            bought.append(step)
            left -= step.cost
        else:
            closed.add(step.site)
    return bought


class Search(Widths):
    """`search`: the plan of the highest summed score whose cost is at most `keep` of the dense cost
    (Kwon et al. 2022, arXiv:2204.09656, §4.1)."""

    method: Literal["search"] = "search"
    cost: Literal["macs", "parameters", "bytes"] = "macs"
    """The cost that `keep` is a fraction of. Fractions of bytes and of parameters are equal."""
    length: PositiveFloat | None = None
    """Text length in tokens at which multiply-accumulates are counted; null: the mean of the
    calibration data, as published."""
    rearrange: bool = True
    """With `score: fisher`: swap units within a layer by the layer's full Fisher information, §4.2.
    No effect with other scores."""
    until_stable: bool = False
    """Rearrange until a round changes nothing; false: one round, as published."""


def unit_costs(settings: Search, sites: Sequence[Site], forward: ForwardPass) -> UnitCosts:
    """Cost of one unit, by site name; multiply-accumulates at the settings' length, if given.

    Raises:
        RecipeError: units share parameters, so the cost of a unit depends on the others.
    """
    if any(site.groups for site in sites):
        raise RecipeError(
            "`allocate: search` needs units of independent cost, but single query heads share their"
            " KV head",
            hint="use `allocate: curves`, or `query_heads: grouped`",
        )
    if settings.cost != "macs":
        return cost.unit_parameters(sites)
    length = settings.length or forward.length
    return cost.unit_macs(sites, forward.hidden, length, causal=forward.causal)


def plan(
    settings: Search,
    sites: Sequence[Site],
    scores: Mapping[str, Float[Tensor, " n"]],
    costs: UnitCosts,
    keep: float,
) -> Plan:
    """The plan for a budget of `keep` times the dense cost, before any rearrangement.

    Args:
        scores: By site name, one score per input of the consumer, not negative; the value of a unit
            is the mean over its inputs, which are equal for the Fisher score.

    Raises:
        RecipeError: no plan meets the budget; the message gives the smallest budget that works.
        NumericalError: a score is not finite.
    """
    importance = unit_importance(sites, scores)
    return search(sites, importance, costs, keep * cost.whole(sites, costs), settings)
