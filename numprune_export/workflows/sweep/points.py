"""Which runs a sweep is made of: a recipe, changed in what is swept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from numprune_export import recipe as recipes
from numprune_export.core.errors import Mistakes, RecipeError
from numprune_export.recipe import Recipe
from numprune_export.recipe.conflicts import timing_of


@dataclass(frozen=True)
class Axes:
    """What is swept; what is empty stays as the recipe says it."""

    keeps: tuple[float, ...]
    scores: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    query_heads: tuple[str, ...] = ()
    """`grouped`, `single`: what cutting query heads one by one costs in speed and gains in quality."""


@dataclass(frozen=True)
class Point:
    """One run of the sweep."""

    name: str
    """Its folder under `points`."""
    recipe: Recipe
    search: tuple[Path, ...]
    """Absolute, where relative paths of the recipe are looked up."""


def keeps(text: str) -> tuple[float, ...]:
    """Fractions from `0.9,0.8`.

    Raises:
        RecipeError: one is no number above 0 and up to 1, or there are two alike.
    """
    found = []
    for word in text.split(","):
        try:
            value = float(word)
        except ValueError:
            value = float("nan")
        if not 0 < value <= 1:
            raise RecipeError(
                f"`--keep {text}`: `{word.strip()}` is not a fraction above 0 and up to 1",
                hint="for example `--keep 0.9,0.8,0.7`",
            )
        found.append(value)
    _refuse_twice("--keep", [f"{one:g}" for one in found])
    return tuple(found)


def words(option: str, text: str | None) -> tuple[str, ...]:
    """Names from `numerical,flap`.

    Raises:
        RecipeError: one is empty, or there are two alike.
    """
    if text is None:
        return ()
    found = [one.strip() for one in text.split(",")]
    if not all(found):
        raise RecipeError(f"`{option} {text}` has an empty name", hint="separate names by commas")
    _refuse_twice(option, found)
    return tuple(found)


def points(
    recipe: str, axes: Axes, changes: Sequence[str], targets: Sequence[str]
) -> tuple[str, tuple[Point, ...]]:
    """The recipe's name and every combination of what is swept, in the order it was given.

    Args:
        recipe: A recipe file, or a shipped recipe's name.
        axes: What is swept.
        changes: `key=value`, for all points.
        targets: Instead of the recipe's own; may be empty.

    Raises:
        NumpruneError: mistakes in the points' recipes, see `recipe.runnable`; or what is swept does not
            change one.
    """
    found: list[Point] = []
    name, mistakes = "", Mistakes()
    chosen_heads: tuple[str | None, ...] = axes.query_heads or (None,)
    for method, score, heads, keep in product(
        axes.methods or [None], axes.scores or [None], chosen_heads, axes.keeps
    ):
        swept = {"method": method, "score": score, "query_heads": heads, "keep": keep}
        own = [f"{key}={value}" for key, value in swept.items() if value is not None]
        told = "-".join(one for one in (method, score, heads, f"keep{keep:g}") if one is not None)
        with mistakes.collected():
            named = recipes.runnable(recipe, [*changes, *own], targets)
            _refuse_fixed_budget(named.recipe)
            name, search = named.name, (named.folder.resolve(), Path.cwd())
            found.append(Point(told, named.recipe, search))
    mistakes.raise_all()
    return name, tuple(found)


def _refuse_twice(option: str, values: Sequence[str]) -> None:
    for value, times in Counter(values).items():
        if times > 1:
            raise RecipeError(f"`{option}` names `{value}` {times} times", hint="name it once")


def _refuse_fixed_budget(recipe: Recipe) -> None:
    timing = timing_of(recipe.allocate)
    if timing is not None and timing.milliseconds is not None:
        raise RecipeError(
            f"the recipe's budget is `{timing.milliseconds:g}` milliseconds, which `--keep` does not"
            " change",
            hint="take `allocate.milliseconds` out of the recipe, so that `keep` is a fraction of the"
            " dense model's time",
        )
