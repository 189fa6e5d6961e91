"""What a reader should know of the plan itself: that it was edited, or that its score misled it."""

from __future__ import annotations

from collections.abc import Iterator

from numprune_export.pruning.plan import Plan
from numprune_export.recipe import Recipe


def plan_warnings(recipe: Recipe, plan: Plan, *, edited: bool) -> Iterator[str]:
    """Sentences for the log, the report and its verdict.

    Args:
        recipe: Of the run.
        plan: Of the dense model, as it is carried out.
        edited: Somebody changed it after it was made.
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
            f" `score: {recipe.score.method}`, which does not compare between heads and neurons:"
            " use `fisher` or `fisher_obs`, or a floor as `allocate.min_keep: 0.1`"
        )
