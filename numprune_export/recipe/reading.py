"""Read a recipe from a YAML file, or report every mistake in it with its fix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from numprune_export.core.errors import RecipeError, together
from numprune_export.core.yaml_text import assignment, read_recipe
from numprune_export.recipe.aliases import present_names
from numprune_export.recipe.conflicts import ConflictingSettings
from numprune_export.recipe.explanation import mistakes_of, mistakes_of_conflicts
from numprune_export.recipe.presets import FILLED
from numprune_export.recipe.schema import Recipe

_STAND_INS: dict[str, Any] = {
    "version": 1,
    "model": "-",
    "calibration": {"texts": ["-"]},
    "evaluation": {"texts": ["-"]},
}
"""Valid values for required keys, used to check the rest of a recipe with invalid ones."""


def load(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `key=value` changes before it is checked.

    Raises:
        RecipeError: the file is unreadable, not YAML, or invalid.
    """
    content = read_recipe(path)
    apply(content, changes)
    return parse(content, path.name)


def parse(content: dict[str, Any], name: str) -> Recipe:
    """Check a recipe's content; `name` is used in messages.

    Raises:
        RecipeError: lists every mistake by dotted key.
    """
    content = present_names(content)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        mistakes = [*mistakes_of(error, name), *_conflicts_of_the_rest(content, error, name)]
        raise together(mistakes) from None


def _conflicts_of_the_rest(
    content: dict[str, Any], error: ValidationError, name: str
) -> Iterator[RecipeError]:
    """Conflicts between valid sections; pydantic skips them if any section is invalid."""
    wrong = {str(detail["loc"][0]) for detail in error.errors() if detail["loc"]}
    right = {key: value for key, value in content.items() if key not in wrong}
    try:
        Recipe.model_validate(_STAND_INS | right)
    except ValidationError as rest:
        for detail in rest.errors():
            conflicting = detail.get("ctx", {}).get("error")
            if isinstance(conflicting, ConflictingSettings):
                yield from mistakes_of_conflicts(conflicting.apart_from(wrong), name)


def apply(content: dict[str, Any], changes: Sequence[str]) -> None:
    """Apply `key=value` changes to a recipe's content in place. A preset set by `method=` replaces
    the sections that it fills, at any position among the changes.

    Raises:
        RecipeError: lists changes of another form; the others are applied.
    """
    if any(change.partition("=")[0] == "method" for change in changes):
        for key in FILLED:
            content.pop(key, None)
    mistakes = []
    for change in changes:
        try:
            _apply_one(content, change)
        except RecipeError as error:
            mistakes.append(error)
    if mistakes:
        raise together(mistakes)


def _apply_one(content: dict[str, Any], change: str) -> None:
    key, value = assignment(change, example="keep=0.7")
    assign(content, key, value)


def assign(content: dict[str, Any], key: str, value: Any) -> None:
    """Set a key of a recipe's content; a dotted key sets a key of a section, which is created if missing.

    >>> content = {"score": "wanda"}
    >>> assign(content, "score.damping", 0.1)
    >>> content
    {'score': {'method': 'wanda', 'damping': 0.1}}
    """
    *path, last = key.split(".")
    for part in path:
        inner = content.get(part)
        if isinstance(inner, str):
            inner = {"source" if part == "model" else "method": inner}
        content[part] = dict(inner) if isinstance(inner, dict) else {}
        content = content[part]
    content[last] = value
