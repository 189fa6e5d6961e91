"""Whether a recipe can be followed with a model of some family: known from its config alone."""

from __future__ import annotations

from collections.abc import Iterator

from numprune_export.core.errors import RecipeError, together
from numprune_export.data.labelled.settings import LabelledData
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.models.family import Family
from numprune_export.pruning.allocate.budget_search import Search
from numprune_export.recipe.conflicts import timing_of
from numprune_export.recipe.schema import Recipe


def require_fit(recipe: Recipe, family: Family) -> None:
    """Refuse a recipe that is for another kind of model.

    Raises:
        RecipeError: every section that this model cannot follow.
    """
    found = list(misfits(recipe, family))
    if found:
        raise together(found)


def misfits(recipe: Recipe, family: Family) -> Iterator[RecipeError]:
    """One error per section that a model of this family cannot follow."""
    if isinstance(family, BidirectionalEncoder):
        yield from _misfits_of_encoder(recipe, family.model_type)
    else:
        yield from _misfits_of_decoder(recipe, family.model_type)


def _misfits_of_encoder(recipe: Recipe, model_type: str) -> Iterator[RecipeError]:
    if _labelled(recipe) != {True}:
        yield RecipeError(
            f"`{model_type}` has a task head, which plain text cannot measure",
            hint="give labelled examples under `calibration.files` and `evaluation.files`",
        )
    if recipe.generated_text.sequences:
        yield RecipeError(
            f"`generated_text` is for language models, and `{model_type}` is none",
            hint="leave it out",
        )
    if recipe.tasks is not None:
        yield RecipeError(
            "`tasks` are asked of language models, this model has a task head of its own",
            hint="remove `tasks`: `evaluation` measures it",
        )


def _misfits_of_decoder(recipe: Recipe, model_type: str) -> Iterator[RecipeError]:
    if _labelled(recipe) != {False}:
        yield RecipeError(
            f"`{model_type}` is a language model, which labelled data cannot measure",
            hint="give plain text under `calibration.texts` and `evaluation.texts`",
        )
    if recipe.score.method == "fisher":
        yield RecipeError(
            "`score: fisher` needs a model with a task head and labelled data",
            hint="use `wanda`, `numerical`, `flap` or `stat` for a language model",
        )
    if timing_of(recipe.allocate) is not None:
        yield RecipeError(
            f"a budget in milliseconds is for encoders, and `{model_type}` is none",
            hint="give one in parameters or MACs: `allocate: {method: curves, cost: macs}`",
        )
    if isinstance(recipe.allocate, Search) and recipe.query_heads == "single":
        yield RecipeError(
            "`allocate: search` needs units that cost the same whatever else goes, and single query"
            " heads share their KV head",
            hint="use `allocate: curves`, or `query_heads: grouped`",
        )


def _labelled(recipe: Recipe) -> set[bool]:
    """Of the calibration and the evaluation data: whether they are labelled examples."""
    return {isinstance(data, LabelledData) for data in (recipe.calibration, recipe.evaluation)}
