"""Choice of the weight of attention errors relative to MLP errors, by comparing whole models."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from numprune_export.core.metric import Metric, Metrics
from numprune_export.pruning.plan import Plan

Divergence = Callable[[Plan], Metric]
"""Divergence of the model with a plan from the dense model, on calibration text."""


def tuned(
    plan: Callable[[float], Plan],
    candidates: Sequence[float],
    divergence: Divergence,
    expect: Callable[[int], None],
) -> tuple[Plan, Metrics]:
    """Choose among one plan per candidate the plan whose model is nearest to the dense model.

    Args:
        plan: Computes the plan for a weight of attention errors.
        candidates: Rising weights; a single one is not compared.
        divergence: Measured once per distinct plan.
        expect: Called with the number of distinct plans.

    Returns:
        The plan, and `allocation.*`: the weight, and the divergence of every candidate.
    """
    if len(candidates) == 1:
        return plan(candidates[0]), {}
    plans = {weight: plan(weight) for weight in candidates}
    expect(len({tuple(sorted(candidate.kept.items())) for candidate in plans.values()}))
    divergences: dict[float, Metric] = {}
    for weight, candidate in plans.items():
        same = [earlier for earlier in divergences if plans[earlier].kept == candidate.kept]
        divergences[weight] = divergences[same[0]] if same else divergence(candidate)
    best = min(candidates, key=lambda weight: (divergences[weight].value, weight))
    chosen = Metric(value=best, unit="x", samples=len(candidates))
    measured = {
        f"allocation.divergence.attention_{weight:g}x": metric
        for weight, metric in divergences.items()
    }
    return plans[best], {"allocation.attention_weight": chosen, **measured}
