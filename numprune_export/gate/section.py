"""The `gate` section by itself: reading it needs none of what the rest of a recipe names."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from numprune_export.core.errors import RecipeError
from numprune_export.core.setting_errors import key_of, problem_of
from numprune_export.core.yaml_text import read_recipe
from numprune_export.gate.limits import Gate


def gate_of(section: object, where: str) -> Gate:
    """A section's content, checked.

    Raises:
        RecipeError: something in it is not allowed; `where` says whose it is.
    """
    try:
        return Gate.model_validate(section)
    except ValidationError as error:
        first = error.errors()[0]
        key = key_of({"loc": ("gate", *first["loc"])})
        raise RecipeError(
            f"{where}: `{key}`: {problem_of(first)}",
            hint="see recipes/schema.json, or `numprune-export schema`",
        ) from None


def gate_of_file(path: Path) -> Gate:
    """The section of a recipe file; without one, the defaults.

    Raises:
        RecipeError: not readable, not YAML, no recipe, or something in the section is not allowed.
    """
    content = read_recipe(path)
    if "version" not in content:
        raise RecipeError(
            f"`{path}` is not a recipe", hint="it must be a mapping with `version: 1`"
        )
    return gate_of(content.get("gate", {}), path.name)
