"""How much errors of attention count beside those of an MLP: tried out on the whole model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from numprune_export.core.metric import Metric, Metrics
from numprune_export.pruning.plan import Plan

Divergence = Callable[[Plan], Metric]
"""How far the model that a plan leaves is from the dense one, on calibration text."""


def tuned(
    plan: Callable[[float], Plan],
    candidates: Sequence[float],
    divergence: Divergence,
    expect: Callable[[int], None],
) -> tuple[Plan, Metrics]:
    """The plan whose model is nearest to the dense one, of one plan per candidate.

    Args:
        plan: Makes the plan for a weight of attention.
        candidates: Rising; a single one is taken as it is.
        divergence: Measured once for every plan that differs from those before.
        expect: Told how many will be measured.

    Returns:
        The plan, and `allocation.*`: the weight, and the divergence of every candidate.
    """
    if len(candidates) == 1:
        return plan(candidates[0]), {}
    plans = {weight: plan(weight) for weight in candidates}
    expect(len({tuple(sorted(one.kept.items())) for one in plans.values()}))
    found: dict[float, Metric] = {}
    for weight, one in plans.items():
        same = [earlier for earlier in found if plans[earlier].kept == one.kept]
        found[weight] = found[same[0]] if same else divergence(one)
    best = min(candidates, key=lambda weight: (found[weight].value, weight))
    chosen = Metric(value=best, unit="x", samples=len(candidates))
    measured = {
        f"allocation.divergence.attention_{weight:g}x": one for weight, one in found.items()
    }
    return plans[best], {"allocation.attention_weight": chosen, **measured}
