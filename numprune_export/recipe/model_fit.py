"""Check whether a recipe fits the family of a model, from its config alone."""

from __future__ import annotations

from collections.abc import Iterator

from numprune_export.core.errors import RecipeError, together
from numprune_export.data.labelled.settings import LabelledData
from numprune_export.models.family import Family
from numprune_export.pruning.allocate.budget_search import Search
from numprune_export.recipe.conflicts import timing_of
from numprune_export.recipe.schema import Recipe


def require_fit(recipe: Recipe, family: Family) -> None:
    """Reject a recipe for another kind of model.

    Raises:
        RecipeError: lists every section that does not fit the model.
    """
    mistakes = list(misfits(recipe, family))
    if mistakes:
        raise together(mistakes)


def misfits(recipe: Recipe, family: Family) -> Iterator[RecipeError]:
    """One error per section that does not fit a model of this family."""
    if family.kind == "encoder":
        yield from _misfits_of_encoder(recipe, family.model_type)
    else:
        yield from _misfits_of_decoder(recipe, family.model_type)


def _misfits_of_encoder(recipe: Recipe, model_type: str) -> Iterator[RecipeError]:
    if _labelled(recipe) != {True}:
        yield RecipeError(
            f"`{model_type}` has a task head; it cannot be evaluated on plain text",
            hint="give labelled examples under `calibration.files` and `evaluation.files`",
        )
    if recipe.generated_text.sequences:
        yield RecipeError(
            f"`generated_text` is supported for language models only, not for `{model_type}`",
            hint="remove `generated_text`",
        )
    if recipe.recover is not None:
        yield RecipeError(
            f"`recover` is supported for language models only, not for `{model_type}`",
            hint="remove `recover`, or set `method: best`",
        )
    if recipe.tasks is not None:
        yield RecipeError(
            "`tasks` are supported for language models only; this model has a task head",
            hint="remove `tasks`: `evaluation` measures the task",
        )


def _misfits_of_decoder(recipe: Recipe, model_type: str) -> Iterator[RecipeError]:
    if _labelled(recipe) != {False}:
        yield RecipeError(
            f"`{model_type}` is a causal language model; it cannot be evaluated on labelled data",
            hint="give plain text under `calibration.texts` and `evaluation.texts`",
        )
    if recipe.score.method == "fisher":
        yield RecipeError(
            "`score: fisher` needs a model with a task head and labelled data",
            hint="use `wanda`, `numerical`, `flap` or `stat` for a language model",
        )
    if timing_of(recipe.allocate) is not None:
        yield RecipeError(
            f"latency budgets are supported for encoders only, not for `{model_type}`",
            hint="give a budget in parameters or MACs: `allocate: {method: curves, cost: macs}`",
        )
    if isinstance(recipe.allocate, Search) and recipe.query_heads == "single":
        yield RecipeError(
            "`allocate: search` needs units of constant cost, and single query heads share their KV"
            " head",
            hint="use `allocate: curves`, or `query_heads: grouped`",
        )


def _labelled(recipe: Recipe) -> set[bool]:
    """Whether calibration and evaluation data are labelled examples."""
    return {isinstance(data, LabelledData) for data in (recipe.calibration, recipe.evaluation)}
