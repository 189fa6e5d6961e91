"""Threshold allocation: a plan from scores, under a budget of parameters.

The paper (Shen et al. 2024, arXiv:2412.12441, Eq. 8) sorts all heads and channels of all layers
together, heads scaled by α = 4·D_h/3. Read literally, α multiplies head scores and the budget
counts units, so nearly all pruning falls on the MLP. Read as the parameter cost of a head, as in
the prose, in Fig. 5 and in FLAP's code, the plan meets the budget. `global` is the default;
`literal` is kept for comparison. Costs are exact, so grouped-query attention needs no other
formula.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt

from numprune_export.core.errors import NumericalError, RecipeError
from numprune_export.core.settings import Strict
from numprune_export.models.site import Site
from numprune_export.pruning.allocate.budget import Budget
from numprune_export.pruning.allocate.widths import advice
from numprune_export.pruning.plan import Plan

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Allocation(Strict):
    """How a budget is divided among layers, and between attention and MLP."""

    method: Literal["global", "uniform", "literal"] = "global"
    """`global`: one threshold over all units, by parameter cost. `uniform`: the same widths in
    every block. `literal`: Eq. 8 as printed."""
    standardise: bool = True
    """Compare scores across sites as (x − mean) / std of their site, as FLAP does; false: raw
    scores."""
    min_keep: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Least fraction of its units that a site keeps; at least one unit."""
    align_to: PositiveInt = 8
    """MLP widths are multiples of this, or the full width."""

    def counts(self, site: Site) -> list[int]:
        """Allowed numbers of kept units, rising; the last is all of them."""
        step = self.align_to if site.kind == "mlp" else 1
        least = max(1, math.ceil(self.min_keep * site.units))
        return [n for n in range(step, site.units, step) if n >= least] + [site.units]

    @property
    def advice(self) -> str:
        """How to allow a smaller budget; appended to the hint."""
        return advice(self.min_keep, self.align_to)

    def require_even(self, sites: Sequence[Site]) -> None:
        """Refuse blocks of different widths for `uniform`.

        Raises:
            RecipeError: the blocks differ in width.
        """
        for kind in ("attention", "mlp"):
            allowed = {tuple(self.counts(site)) for site in sites if site.kind == kind}
            if self.method == "uniform" and len(allowed) > 1:
                raise RecipeError(
                    "`allocate.method: uniform` needs a model whose blocks all have the same widths",
                    hint="use `global` for a model that is already uneven",
                )


@dataclass(frozen=True)
class _Ladder:
    """The allowed widths of a site, and its units from best to worst."""

    site: Site
    order: list[int]
    """Units by falling score."""
    scores: list[float]
    """Falling, one per unit."""
    counts: list[int]
    """Allowed numbers of kept units, rising."""
    costs: list[int]
    """Parameters of the best units, one per count."""

    def rung(self, threshold: float) -> int:
        """Index of the largest allowed count whose units all score at least `threshold`, or of the
        floor."""
        above = bisect_right([-score for score in self.scores], -threshold)
        return max(0, bisect_right(self.counts, above) - 1)


def allocate(
    sites: Sequence[Site],
    scores: Mapping[str, Float[Tensor, " n"]],
    keep: float,
    settings: Allocation,
) -> Plan:
    """Choose the units to keep so that their parameters are at most `keep` of all prunable
    parameters.

    Args:
        sites: All prunable sites.
        scores: By site name, one score per input of the consumer; higher is kept first.
        keep: Fraction of the prunable parameters that may stay.
        settings: How to divide the budget.

    Raises:
        RecipeError: the floors alone take more than the budget.
        NumericalError: a score is not finite.
    """
    settings.require_even(sites)
    ladders = [_ladder(site, scores[site.name], settings) for site in sites]
    budget = math.floor(keep * sum(site.parameters for site in sites))
    whole = _cost(ladders, [len(ladder.counts) - 1 for ladder in ladders])
    limit = Budget(keep * whole, advice=settings.advice)
    limit.check(_cost(ladders, [0] * len(ladders)), whole)
    match settings.method:
        case "global":
            rungs = _global(ladders, budget)
        case "uniform":
            rungs = _uniform(ladders, budget, keep)
        case "literal":
            rungs = _literal(ladders, keep)
    kept = {
        ladder.site.name: tuple(sorted(ladder.order[: ladder.counts[rung]]))
        for ladder, rung in zip(ladders, rungs, strict=True)
    }
    return Plan(tuple(sites), kept)


def _ladder(site: Site, columns: Float[Tensor, " n"], settings: Allocation) -> _Ladder:
    if not bool(columns.isfinite().all()):
        raise NumericalError(
            f"scores of `{site.name}` are not finite",
            hint="check the calibration text, or raise the score's damping",
        )
    columns = columns.double()
    if settings.standardise and settings.method != "literal":
        columns = (columns - columns.mean()) / columns.std(correction=0).clamp_min(1e-12)
    units = columns.reshape(site.units, site.consumer_width).mean(1)
    order = units.sort(descending=True, stable=True).indices.tolist()
    counts = settings.counts(site)
    costs = [site.cost(order[:count]) for count in counts]
    return _Ladder(site, order, [float(units[unit]) for unit in order], counts, costs)


def _cost(ladders: Sequence[_Ladder], rungs: Sequence[int]) -> int:
    return sum(ladder.costs[rung] for ladder, rung in zip(ladders, rungs, strict=True))


def _global(ladders: Sequence[_Ladder], budget: int) -> list[int]:
    """The lowest common threshold that meets the budget, then the best further steps that fit."""
    thresholds = sorted({score for ladder in ladders for score in ladder.scores})
    low, high = 0, len(thresholds)
    while low < high:
        middle = (low + high) // 2
        rungs = [ladder.rung(thresholds[middle]) for ladder in ladders]
        low, high = (low, middle) if _cost(ladders, rungs) <= budget else (middle + 1, high)
    threshold = thresholds[low] if low < len(thresholds) else math.inf
    rungs = [ladder.rung(threshold) for ladder in ladders]
    return _fill(ladders, rungs, budget)


def _fill(ladders: Sequence[_Ladder], rungs: list[int], budget: int) -> list[int]:
    """Spend the rest of the budget rung by rung, the highest mean score first."""
    left = budget - _cost(ladders, rungs)
    while True:
        steps = [
            (_step_score(ladder, rung), -index)
            for index, (ladder, rung) in enumerate(zip(ladders, rungs, strict=True))
            if rung + 1 < len(ladder.counts) and _step_cost(ladder, rung) <= left
        ]
        if not steps:
            return rungs
        index = -max(steps)[1]
        left -= _step_cost(ladders[index], rungs[index])
        rungs[index] += 1


def _step_cost(ladder: _Ladder, rung: int) -> int:
    return ladder.costs[rung + 1] - ladder.costs[rung]


def _step_score(ladder: _Ladder, rung: int) -> float:
    units = ladder.scores[ladder.counts[rung] : ladder.counts[rung + 1]]
    return sum(units) / len(units)


def _uniform(ladders: Sequence[_Ladder], budget: int, keep: float) -> list[int]:
    """Attention widths as near to `keep` as whole units allow; MLP widths from the rest of the
    budget."""
    groups = [
        [index for index, ladder in enumerate(ladders) if ladder.site.kind == kind]
        for kind in ("attention", "mlp")
    ]
    rungs = [0] * len(ladders)
    for members in groups:
        counts = ladders[members[0]].counts
        goal = keep * counts[-1]
        by_distance = sorted(range(len(counts)), key=lambda rung: (abs(counts[rung] - goal), rung))
        fitting = by_distance if members is groups[0] else range(len(counts) - 1, -1, -1)
        for rung in fitting:
            for index in members:
                rungs[index] = rung
            if _cost(ladders, rungs) <= budget:
                break
    return rungs


def _literal(ladders: Sequence[_Ladder], keep: float) -> list[int]:
    """Eq. 8 as printed: head scores times α, and a threshold at a rank among units, not at a
    cost."""
    channel = min(ladder.site.unit_cost for ladder in ladders)
    scaled = [
        replace(ladder, scores=[score * ladder.site.unit_cost / channel for score in ladder.scores])
        for ladder in ladders
    ]
    ranked = sorted(score for ladder in scaled for score in ladder.scores)
    rank = min(math.floor((1 - keep) * len(ranked)), len(ranked) - 1)
    return [ladder.rung(ranked[rank]) for ladder in scaled]
