"""The plan worth most under a budget of milliseconds, whatever the latency curves look like.

A knapsack with one choice per sublayer: its width, worth the importance of that many best units
(Kwon et al. 2022, arXiv:2204.09656, Eq. 8), taking what the curve says. Solved exactly by dynamic
programming on a grid of milliseconds, for any curve, floors and alignment.

The paper's own search (Alg. 3) tries every number of dropped sublayers, the least important ones
first, and buys units with what is left. Its released code spends one budget over all of these tries,
compares them by the units bought and not by all that are kept, and fails where a slope is 0 or a layer
full. Here there are no tries: sublayers are dropped where that is best, and a plan is what it keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from numprune_export.models.site import Site
from numprune_export.pruning.allocate.budget import Budget
from numprune_export.pruning.allocate.budget_search import plan_of, ranked
from numprune_export.pruning.allocate.latency.curve import Curves, predict
from numprune_export.pruning.allocate.widths import Widths
from numprune_export.pruning.plan import Plan

GRID = 20_000
"""Steps that a budget is divided into. Times are rounded up to them, so at most one step for each
sublayer goes unspent; a last pass spends what it can of that."""


@dataclass(frozen=True)
class LatencyPlan:
    """A plan and what it should take."""

    plan: Plan
    predicted_ms: float
    """Of the whole model, by the curves that the search used; a measurement may differ."""


@dataclass(frozen=True)
class _Ladder:
    """Widths that one sublayer may have, rising, with what each is worth and takes."""

    order: list[int]
    counts: list[int]
    values: list[float]
    times: list[float]


def search_curves(
    sites: Sequence[Site],
    importance: Mapping[str, Float[Tensor, " units"]],
    curves: Curves,
    budget_ms: float,
    *,
    fixed_ms: float = 0.0,
    widths: Widths = Widths(),  # noqa: B008  (frozen settings)
) -> LatencyPlan:
    """The plan of the highest summed importance predicted to take at most `budget_ms`.

    Args:
        sites: All prunable sites.
        importance: By site name, one value per unit, not negative.
        curves: By kind of sublayer.
        budget_ms: For the whole model.
        fixed_ms: What the whole model takes besides its sublayers.
        widths: Floors and alignment.

    Raises:
        RecipeError: no plan is that fast; the message gives the smallest budget that works.
        NumericalError: an importance is not finite.
    """
    ladders = [_ladder(site, importance[site.name], curves, widths) for site in sites]
    least, whole = (sum(one.times[end] for one in ladders) + fixed_ms for end in (0, -1))
    Budget(budget_ms, "ms", widths.advice).check(least, whole)
    capacity = budget_ms - fixed_ms
    rungs = _fill(ladders, _knapsack(ladders, capacity), capacity)
    counts = [one.counts[rung] for one, rung in zip(ladders, rungs, strict=True)]
    plan = plan_of(sites, [one.order for one in ladders], counts)
    return LatencyPlan(plan, predict(sites, counts, curves) + fixed_ms)


def _ladder(site: Site, importance: Tensor, curves: Curves, widths: Widths) -> _Ladder:
    order, counts = ranked(site, importance), widths.counts(site)
    totals = [0.0, *accumulate(float(importance[unit]) for unit in order)]
    times = [curves[site.kind](count) for count in counts]
    return _Ladder(order, counts, [totals[count] for count in counts], times)


def _knapsack(ladders: Sequence[_Ladder], capacity: float) -> list[int]:
    """Which rung of every ladder, by dynamic programming over the grid; the floors if none fits."""
    best = np.zeros(GRID + 1)
    choices: list[NDArray[np.int32]] = []
    for one in ladders:
        found, choice = np.full(GRID + 1, -np.inf), np.zeros(GRID + 1, np.int32)
        for rung, cost in _grid(one.times, capacity):
            reached = best[: GRID + 1 - cost] + one.values[rung]
            better = reached > found[cost:]
            found[cost:][better] = reached[better]
            choice[cost:][better] = rung
        best = found
        choices.append(choice)
    return _walk_back(ladders, choices, capacity) if np.isfinite(best[GRID]) else [0] * len(ladders)


def _grid(times: Sequence[float], capacity: float) -> list[tuple[int, int]]:
    """(rung, its time in grid steps, rounded up), the highest rung of those with equal steps."""
    # A budget of exactly nothing pays for what takes no time, and for nothing else.
    steps = [
        0 if time == 0 else int(np.ceil(time / capacity * GRID)) if capacity > 0 else GRID + 1
        for time in times
    ]
    last = {cost: rung for rung, cost in enumerate(steps) if cost <= GRID}
    return [(rung, cost) for cost, rung in last.items()]


def _walk_back(
    ladders: Sequence[_Ladder], choices: Sequence[NDArray[np.int32]], capacity: float
) -> list[int]:
    left, rungs = GRID, []
    for one, choice in zip(reversed(ladders), reversed(choices), strict=True):
        rung = int(choice[left])
        rungs.append(rung)
        left -= dict(_grid(one.times, capacity))[rung]
    return rungs[::-1]


def _fill(ladders: Sequence[_Ladder], rungs: list[int], capacity: float) -> list[int]:
    """Spend what rounding up left, the most valuable next rung that fits first."""
    left = capacity - sum(one.times[rung] for one, rung in zip(ladders, rungs, strict=True))
    while True:
        steps = [
            (one.values[rung + 1] - one.values[rung], -index)
            for index, (one, rung) in enumerate(zip(ladders, rungs, strict=True))
            if rung + 1 < len(one.counts) and one.times[rung + 1] - one.times[rung] <= left
        ]
        if not steps:
            return rungs
        index = -max(steps)[1]
        one, rung = ladders[index], rungs[index]
        left -= one.times[rung + 1] - one.times[rung]
        rungs[index] += 1
