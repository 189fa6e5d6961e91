"""Points of a sweep: one recipe with swept settings."""

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
    """Swept settings; an empty axis keeps the recipe's value."""

    keeps: tuple[float, ...]
    scores: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    query_heads: tuple[str, ...] = ()
    """`grouped`, `single`: whether query heads are pruned with their KV head or one by one."""


@dataclass(frozen=True)
class Point:
    """One run of the sweep."""

    name: str
    """Its folder under `points`."""
    recipe: Recipe
    search: tuple[Path, ...]
    """Absolute folders searched for relative paths of the recipe."""


def keeps(text: str) -> tuple[float, ...]:
    """Fractions from `0.9,0.8`.

    Raises:
        RecipeError: a value is not above 0 and at most 1, or occurs twice.
    """
    fractions = []
    for word in text.split(","):
        try:
            value = float(word)
        except ValueError:
            value = float("nan")
        if not 0 < value <= 1:
            raise RecipeError(
                f"`--keep {text}`: `{word.strip()}` is not a fraction above 0 and at most 1",
                hint="for example `--keep 0.9,0.8,0.7`",
            )
        fractions.append(value)
    _refuse_twice("--keep", [f"{value:g}" for value in fractions])
    return tuple(fractions)


def words(option: str, text: str | None) -> tuple[str, ...]:
    """Names from `numerical,flap`.

    Raises:
        RecipeError: a name is empty or occurs twice.
    """
    if text is None:
        return ()
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise RecipeError(f"`{option} {text}` has an empty name", hint="separate names by commas")
    _refuse_twice(option, names)
    return tuple(names)


def points(
    recipe: str, axes: Axes, changes: Sequence[str], targets: Sequence[str]
) -> tuple[str, tuple[Point, ...]]:
    """Name of the recipe, and a point per combination of swept values, in the given order.

    Args:
        recipe: A recipe file, or the name of a shipped recipe.
        axes: Swept settings.
        changes: `key=value`, for all points.
        targets: Replace the recipe's targets; empty: the recipe's.

    Raises:
        NumpruneError: a point's recipe is invalid, see `recipe.runnable`; or its budget is fixed in
            milliseconds.
    """
    swept_points: list[Point] = []
    name, mistakes = "", Mistakes()
    chosen_heads: tuple[str | None, ...] = axes.query_heads or (None,)
    for method, score, heads, keep in product(
        axes.methods or [None], axes.scores or [None], chosen_heads, axes.keeps
    ):
        swept = {"method": method, "score": score, "query_heads": heads, "keep": keep}
        own = [f"{key}={value}" for key, value in swept.items() if value is not None]
        label = "-".join(
            part for part in (method, score, heads, f"keep{keep:g}") if part is not None
        )
        with mistakes.collected():
            named = recipes.runnable(recipe, [*changes, *own], targets)
            _refuse_fixed_budget(named.recipe)
            name, search = named.name, (named.folder.resolve(), Path.cwd())
            swept_points.append(Point(label, named.recipe, search))
    mistakes.raise_all()
    return name, tuple(swept_points)


def _refuse_twice(option: str, values: Sequence[str]) -> None:
    for value, times in Counter(values).items():
        if times > 1:
            raise RecipeError(f"`{option}` names `{value}` {times} times", hint="name it once")


def _refuse_fixed_budget(recipe: Recipe) -> None:
    timing = timing_of(recipe.allocate)
    if timing is not None and timing.milliseconds is not None:
        raise RecipeError(
            f"the recipe's budget is fixed at `{timing.milliseconds:g}` milliseconds: `--keep` does"
            " not change it",
            hint="remove `allocate.milliseconds` from the recipe, so that `keep` is a fraction of"
            " the dense model's latency",
        )
