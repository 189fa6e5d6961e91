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
from typing import TYPE_CHECKING

from numprune_export.core.errors import NumericalError, RecipeError
from numprune_export.pruning.allocate.cost import UnitCosts
from numprune_export.pruning.allocate.widths import Widths
from numprune_export.pruning.plan import Plan, Site

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


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
    left = math.floor(budget) - _floor_cost(sites, costs, floors, budget, widths)
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


def plan_of(sites: Sequence[Site], orders: Sequence[Sequence[int]], counts: Sequence[int]) -> Plan:
    """The plan that keeps this many of each site's first units in its order."""
    kept = {
        site.name: tuple(sorted(order[:count]))
        for site, order, count in zip(sites, orders, counts, strict=True)
    }
    return Plan(tuple(sites), kept)


def _floor_cost(
    sites: Sequence[Site], costs: UnitCosts, floors: Sequence[int], budget: float, widths: Widths
) -> int:
    least = smallest_budget(sites, costs, widths)
    if least > budget:
        everything = sum(site.units * costs[site.name] for site in sites)
        raise RecipeError(
            f"a budget of {budget / everything:.4g} of the whole cannot be met: the smallest that can"
            f" is {least / everything:.4g}",
            hint=f"raise the budget{widths.advice}",
        )
    return least


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
