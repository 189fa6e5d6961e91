"""The plan worth most under a budget (Kwon et al. 2022, arXiv:2204.09656, §4.1, Alg. 1).

With a diagonal Fisher a plan is worth the sum of its kept units' importance, and units come in
classes of equal cost: heads and neurons. For n units of one class the best choice is its n most
important ones, and what is left of the budget buys the k best of the other class; trying every n is
the exact optimum. Budget and costs may be multiply-accumulates, parameters or bytes.

Floors and alignment keep this form: a site's units are bought in steps, best first, the floor as a
step that must be bought. All steps of a class must cost the same; where alignment leaves a site a
smaller last step, or units of one kind differ in cost, there are more than two classes. Then
`_by_density` buys steps by importance per cost, which is at most one step below the optimum of the
relaxed problem, and what was left over is spent on whatever step still fits.

Published differently: no plan may exceed the budget (the released code admits one whose heads alone
do), and no heads at all is tried too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from numprune_export.core.errors import NumericalError, RecipeError
from numprune_export.models.site import Site
from numprune_export.pruning.allocate import cost
from numprune_export.pruning.allocate.budget import Budget
from numprune_export.pruning.allocate.cost import ForwardPass, UnitCosts
from numprune_export.pruning.allocate.widths import Widths
from numprune_export.pruning.plan import Plan


@dataclass(frozen=True)
class _Step:
    """Units of one site that are bought together, after all earlier steps of that site."""

    site: int
    units: int
    value: float
    cost: int
    density: float
    """Value per cost, never more than that of an earlier step of the site."""


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
        importance: By site name, one value per unit, not negative; more is more worth keeping.
        costs: By site name, the cost of one of its units.
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
    """What the floors of all sites cost together: no plan costs less."""
    return sum(widths.counts(site)[0] * costs[site.name] for site in sites)


def ranked(site: Site, importance: Float[Tensor, " units"]) -> list[int]:
    """Units from most to least important, the lower index first among equals.

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
    """The plan that keeps this many of each site's first units in its order."""
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
        # Rounding must not put a step before an earlier one of its site.
        density = min(density, value / ((more - count) * cost))
        steps.append(_Step(index, more - count, value, (more - count) * cost, density))
    return steps


def _two_classes(steps: Sequence[_Step]) -> bool:
    """Whether steps cost one of at most two prices, and those of one site the same."""
    prices = {(step.site, step.cost) for step in steps}
    return len(prices) == len({site for site, _ in prices}) and len({c for _, c in prices}) <= 2


def _exact(steps: Sequence[_Step], left: int) -> list[_Step]:
    """Every n of the dearer class, each with all the cheaper ones that the rest pays for."""
    classes = sorted({step.cost for step in steps})
    if len(classes) < 2:
        return _by_value(steps, classes[0])[: left // classes[0]] if classes else []
    dear, cheap = _by_value(steps, classes[1]), _by_value(steps, classes[0])
    values = [[0.0, *accumulate(step.value for step in one)] for one in (dear, cheap)]
    best, choice = -math.inf, (0, 0)
    for n in range(min(len(dear), left // classes[1]) + 1):
        k = min(len(cheap), (left - n * classes[1]) // classes[0])
        if values[0][n] + values[1][k] > best:
            best, choice = values[0][n] + values[1][k], (n, k)
    return dear[: choice[0]] + cheap[: choice[1]]


def _by_value(steps: Sequence[_Step], cost: int) -> list[_Step]:
    # Stable, and a site's steps never rise in value: they stay in their order.
    return sorted((one for one in steps if one.cost == cost), key=lambda one: -one.value)


def _by_density(steps: Sequence[_Step], left: int) -> list[_Step]:
    """Importance per cost, highest first; a site whose next step does not fit is closed."""
    bought, closed = [], set()
    for step in sorted(steps, key=lambda one: -one.density):
        if step.site in closed:
            continue
        if step.cost <= left:
            bought.append(step)
            left -= step.cost
        else:
            closed.add(step.site)
    return bought


class Search(Widths):
    """`search`: the plan of the highest summed score whose cost is at most `keep` of the whole (Kwon
    et al. 2022, arXiv:2204.09656, §4.1)."""

    method: Literal["search"] = "search"
    cost: Literal["macs", "parameters", "bytes"] = "macs"
    """What `keep` is a fraction of. A fraction in bytes is that in parameters."""
    length: PositiveFloat | None = None
    """Tokens of a text that multiply-accumulates are counted at; null: the mean of the evaluation
    data, as published."""
    rearrange: bool = True
    """With `score: fisher`: swap units within a layer by its whole Fisher information, §4.2. Other
    scores have none, and it does nothing."""
    until_stable: bool = False
    """Rearrange until a round changes nothing; one round as published."""


def unit_costs(settings: Search, sites: Sequence[Site], forward: ForwardPass) -> UnitCosts:
    """The cost of a unit of each site; multiply-accumulates at the settings' length if they give one.

    Raises:
        RecipeError: units share parameters, so that none has a cost of its own.
    """
    if any(site.groups for site in sites):
        raise RecipeError(
            "`allocate: search` needs units that cost the same whatever else goes, and single query"
            " heads share their KV head",
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
    """The plan for a budget of `keep` of the whole cost, before any rearrangement.

    Args:
        scores: By site name, one score per input of the consumer, not negative; a unit is worth the
            mean over its inputs, of which the Fisher score gives each the same.

    Raises:
        RecipeError: no plan is that small; the message says the smallest.
        NumericalError: a score is not finite.
    """
    importance = unit_importance(sites, scores)
    return search(sites, importance, costs, keep * cost.whole(sites, costs), settings)
