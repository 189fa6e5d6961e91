"""The paper's search under a latency budget (Kwon et al. 2022, arXiv:2204.09656, §4.1, Alg. 3).

A sublayer that stays costs its base and keeps all units up to the threshold, which are free then.
What the budget has left buys further units by the scan over two classes. All numbers of dropped
sublayers of each kind are tried, those with the least important free units first.

Where the released code differs it is wrong, and is not followed: here the budget is spent anew for
every combination, candidates are compared by all the units they keep and not by the bought ones, a
slope of 0 buys everything there is, no more units are bought than there are, and nothing may exceed
the budget. It knows no floors and no alignment; `latency_search` does, and is exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from numprune_export.fisher.latency_curve import StepRamp, predict
from numprune_export.fisher.latency_search import LatencyPlan, check_budget
from numprune_export.fisher.search import plan_of, ranked
from numprune_export.fisher.widths import Widths
from numprune_export.plan import Kind, Site


@dataclass(frozen=True)
class _Option:
    """The sublayers of one kind after some of them were dropped."""

    free: dict[int, int]
    """Units up to the threshold, by index of the kept site."""
    base_ms: float
    base_value: float
    gains: NDArray[np.float64]
    """What the first n bought units are worth together, from n = 0."""
    owners: list[int]
    """Index of the site that each bought unit belongs to, the most important first."""
    slope: float

    def affordable(self, left: NDArray[np.float64]) -> NDArray[np.int64]:
        """How many units these milliseconds buy."""
        if self.slope == 0:
            return np.full(left.shape, len(self.owners))
        bought = np.floor(left / self.slope).clip(max=len(self.owners))
        found: NDArray[np.int64] = bought.astype(np.int64)
        return found


def search_step_ramp(
    sites: Sequence[Site],
    importance: Mapping[str, Float[Tensor, " units"]],
    curves: Mapping[Kind, StepRamp],
    budget_ms: float,
    *,
    fixed_ms: float = 0.0,
) -> LatencyPlan:
    """A plan of high summed importance predicted to take at most `budget_ms`.

    Arguments and errors are those of `latency_search.search_curves`.
    """
    orders = [ranked(site, importance[site.name]) for site in sites]
    ranks = [
        importance[site.name].double().numpy(force=True)[order]
        for site, order in zip(sites, orders, strict=True)
    ]
    heads, neurons = (_options(sites, ranks, curves, kind) for kind in ("attention", "mlp"))
    least = min(one.base_ms for one in heads) + min(one.base_ms for one in neurons)
    check_budget(least + fixed_ms, budget_ms, Widths())
    best, counts = -math.inf, [0] * len(sites)
    for head in heads:
        for neuron in neurons:
            left = budget_ms - fixed_ms - head.base_ms - neuron.base_ms
            if left < 0:
                continue
            value, n, k = _scan(head, neuron, left)
            if value > best:
                best, counts = value, _counts(len(sites), (head, n), (neuron, k))
    return LatencyPlan(plan_of(sites, orders, counts), predict(sites, counts, curves) + fixed_ms)


def _options(
    sites: Sequence[Site],
    ranks: Sequence[NDArray[np.float64]],
    curves: Mapping[Kind, StepRamp],
    kind: Kind,
) -> list[_Option]:
    """One option for every number of dropped sublayers of this kind, none first."""
    members = [index for index, site in enumerate(sites) if site.kind == kind and site.units]
    if not members:
        return [_Option({}, 0.0, 0.0, np.zeros(1), [], 0.0)]
    curve = curves[kind]
    worth = {index: float(ranks[index][: curve.threshold].sum()) for index in members}
    droppable = [index for index in members if sites[index].may_be_empty]
    droppable.sort(key=lambda index: worth[index])
    found = []
    for dropped in range(len(droppable) + 1):
        kept = sorted(set(members) - set(droppable[:dropped]))
        further = sorted(
            (-float(value), index) for index in kept for value in ranks[index][curve.threshold :]
        )
        found.append(
            _Option(
                free={index: min(curve.threshold, sites[index].units) for index in kept},
                base_ms=curve.base * len(kept),
                base_value=sum(worth[index] for index in kept),
                gains=np.concatenate([[0.0], np.cumsum([-value for value, _ in further])]),
                owners=[index for _, index in further],
                slope=curve.slope,
            )
        )
    return found


def _scan(heads: _Option, neurons: _Option, left: float) -> tuple[float, int, int]:
    """Importance, heads bought and neurons bought of the best split of the milliseconds left."""
    most = int(heads.affordable(np.asarray([left]))[0])
    bought = np.arange(most + 1)
    others = neurons.affordable(np.maximum(left - bought * heads.slope, 0))
    values = heads.gains[bought] + neurons.gains[others]
    n = int(values.argmax())
    return heads.base_value + neurons.base_value + float(values[n]), n, int(others[n])


def _counts(size: int, *chosen: tuple[_Option, int]) -> list[int]:
    counts = [0] * size
    for option, bought in chosen:
        for index, free in option.free.items():
            counts[index] = free
        for index in option.owners[:bought]:
            counts[index] += 1
    return counts
