"""Warnings about a plan: edited by hand, or sublayers emptied by an unsuitable score."""

from __future__ import annotations

from collections.abc import Iterator

from numprune_export.pruning.plan import Plan
from numprune_export.recipe import Recipe


def plan_warnings(recipe: Recipe, plan: Plan, *, edited: bool) -> Iterator[str]:
    """Sentences for the log, the report and its verdict.

    Args:
        recipe: Of the run.
        plan: The applied plan, for the dense model.
        edited: Whether it was edited by hand.
    """
    if edited:
        yield (
            f"the plan was edited by hand: it keeps {plan.keep:.4g} of the prunable parameters,"
            f" the recipe's `keep` is {recipe.keep:g}"
        )
    emptied = [site for site in plan.sites if not plan.kept[site.name]]
    if emptied and not edited and not recipe.score.estimates_loss:
        yield (
            f"{len(emptied)} of {len(plan.sites)} sublayers lost all their units by"
            f" `score: {recipe.score.method}`, which does not compare heads with neurons:"
            " use `fisher` or `fisher_obs`, or a floor such as `allocate.min_keep: 0.1`"
        )
