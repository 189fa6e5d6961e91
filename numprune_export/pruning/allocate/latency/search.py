"""Latency search: the plan of the highest importance under a budget of milliseconds.

A knapsack problem with one choice per sublayer: its width. The value is the summed importance of
that many best units (Kwon et al. 2022, arXiv:2204.09656, Eq. 8), the weight is the curve's latency.
It is solved exactly by dynamic programming on a grid of milliseconds, for any curve, floors and
alignment.

The paper's search (Alg. 3) tries every number of dropped sublayers, least important first, and buys
units with the rest of the budget. Its released code shares one budget among all trials, compares
them by the units bought instead of all units kept, and fails where a slope is 0 or a layer is full.
Here no trials are needed: the knapsack decides which sublayers are dropped.
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
"""Steps that a budget is divided into. Times are rounded up to whole steps, so at most one step per
sublayer is left over; a final pass spends as much of it as possible."""


@dataclass(frozen=True)
class LatencyPlan:
    """A plan and its predicted latency."""

    plan: Plan
    predicted_ms: float
    """Latency of the whole model by the search's curves; a measurement may differ."""


@dataclass(frozen=True)
class _Ladder:
    """Allowed widths of one sublayer, rising, with their values and times in milliseconds."""

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
        curves: Latency curves by kind of sublayer.
        budget_ms: Budget of the whole model.
        fixed_ms: Latency of the whole model without sublayers.
        widths: Floors and alignment.

    Raises:
        RecipeError: no plan meets the budget; the message gives the smallest budget that works.
        NumericalError: an importance is not finite.
    """
    ladders = [_ladder(site, importance[site.name], curves, widths) for site in sites]
    least, whole = (sum(ladder.times[end] for ladder in ladders) + fixed_ms for end in (0, -1))
    Budget(budget_ms, "ms", widths.advice).check(least, whole)
    capacity = budget_ms - fixed_ms
    rungs = _fill(ladders, _knapsack(ladders, capacity), capacity)
    counts = [ladder.counts[rung] for ladder, rung in zip(ladders, rungs, strict=True)]
    plan = plan_of(sites, [ladder.order for ladder in ladders], counts)
    return LatencyPlan(plan, predict(sites, counts, curves) + fixed_ms)


def _ladder(site: Site, importance: Tensor, curves: Curves, widths: Widths) -> _Ladder:
    order, counts = ranked(site, importance), widths.counts(site)
    totals = [0.0, *accumulate(float(importance[unit]) for unit in order)]
    times = [curves[site.kind](count) for count in counts]
    return _Ladder(order, counts, [totals[count] for count in counts], times)


def _knapsack(ladders: Sequence[_Ladder], capacity: float) -> list[int]:
    """The rung of every ladder, by dynamic programming over the grid; the floors if nothing
    fits."""
    best = np.zeros(GRID + 1)
    choices: list[NDArray[np.int32]] = []
    for ladder in ladders:
        values, choice = np.full(GRID + 1, -np.inf), np.zeros(GRID + 1, np.int32)
        for rung, cost in _grid(ladder.times, capacity):
            reached = best[: GRID + 1 - cost] + ladder.values[rung]
            better = reached > values[cost:]
            values[cost:][better] = reached[better]
            choice[cost:][better] = rung
        best = values
        choices.append(choice)
    return _walk_back(ladders, choices, capacity) if np.isfinite(best[GRID]) else [0] * len(ladders)


def _grid(times: Sequence[float], capacity: float) -> list[tuple[int, int]]:
    """(rung, its time in grid steps, rounded up); of rungs with equal steps only the highest."""
    # A budget of 0 pays only for rungs that take no time.
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
    for ladder, choice in zip(reversed(ladders), reversed(choices), strict=True):
        rung = int(choice[left])
        rungs.append(rung)
        left -= dict(_grid(ladder.times, capacity))[rung]
    return rungs[::-1]


def _fill(ladders: Sequence[_Ladder], rungs: list[int], capacity: float) -> list[int]:
    """Spend the rest left by rounding up, the most valuable next rung that fits first."""
    left = capacity - sum(ladder.times[rung] for ladder, rung in zip(ladders, rungs, strict=True))
    while True:
        steps = [
            (ladder.values[rung + 1] - ladder.values[rung], -index)
            for index, (ladder, rung) in enumerate(zip(ladders, rungs, strict=True))
            if rung + 1 < len(ladder.counts) and ladder.times[rung + 1] - ladder.times[rung] <= left
        ]
        if not steps:
            return rungs
        index = -max(steps)[1]
        ladder, rung = ladders[index], rungs[index]
        left -= ladder.times[rung + 1] - ladder.times[rung]
        rungs[index] += 1
