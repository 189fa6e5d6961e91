"""Convert pydantic errors of a recipe to errors that name the key, the value and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from numprune_export.core.errors import RecipeError
from numprune_export.core.paths import shortened
from numprune_export.core.setting_errors import key_of, problem_of
from numprune_export.recipe.conflicts import Conflict, ConflictingSettings
from numprune_export.recipe.schema import UNIONS, Recipe

_SCHEMA_HINT = "see recipes/schema.json, or `numprune-export schema`"


def mistakes_of(error: ValidationError, name: str) -> Iterator[RecipeError]:
    """One error per mistake, in the order of the schema; `name` is the recipe's name."""
    for detail in error.errors():
        conflicts = detail.get("ctx", {}).get("error")
        if isinstance(conflicts, ConflictingSettings):
            yield from mistakes_of_conflicts(conflicts.conflicts, name)
        else:
            yield _mistake(detail, name)


def mistakes_of_conflicts(conflicts: Iterable[Conflict], name: str) -> Iterator[RecipeError]:
    """One error per conflict."""
    for conflict in conflicts:
        yield RecipeError(f"{name}: {conflict.message}", hint=conflict.hint)


def _location(detail: ErrorDetails) -> list[str]:
    """Keys that lead to a mistake, without the tag of a union's member."""
    location = [str(part) for part in detail["loc"]]
    if len(location) > 1 and location[0] in UNIONS:
        del location[1]
    return location


def _mistake(detail: ErrorDetails, name: str) -> RecipeError:
    location = _location(detail)
    key = key_of({"loc": location}) or "recipe"
    if detail["type"] == "extra_forbidden":
        return RecipeError(f"{name}: unknown key `{key}`", hint=_closest(location))
    if detail["type"] == "union_tag_not_found":
        return RecipeError(
            f"{name}: `{key}` has no `method`",
            hint=f"for example `--set {key}.method={_methods(key)[0]}`; other methods: "
            + ", ".join(_methods(key)[1:]),
        )
    return RecipeError(f"{name}: `{key}`: {_problem(detail)}", hint=_SCHEMA_HINT)


def _problem(detail: ErrorDetails) -> str:
    context: Mapping[str, Any] = detail.get("ctx", {})
    if detail["type"] == "union_tag_invalid":
        tag, tags = shortened(str(context["tag"])), context["expected_tags"].replace("'", "`")
        return f"unknown method `{tag}`, expected one of {tags}"
    if detail["type"] == "value_error":
        return str(context["error"])
    return problem_of(detail)


def _closest(location: list[str]) -> str:
    """Hint for an unknown key: methods that have it, or the most similar key of the schema."""
    last = location[-1]
    if len(location) > 1 and (methods := _methods(location[0], last)):
        return f"`{last}` is a setting of `{location[0]}` with `method: {' or '.join(methods)}`"
    known = set(Recipe.model_fields)
    for section in Recipe.model_json_schema()["$defs"].values():
        known |= set(section.get("properties", {}))
    close = difflib.get_close_matches(last, sorted(known - {last}), n=1)
    return f"did you mean `{close[0]}`?" if close else "see `numprune-export schema` for all keys"


def _methods(section: str, setting: str = "method") -> list[str]:
    """Methods of a section that have a setting."""
    schema, methods = Recipe.model_json_schema(), []
    for member in schema["properties"].get(section, {}).get("oneOf", []):
        settings = schema["$defs"][member["$ref"].rpartition("/")[2]]["properties"]
        if setting in settings and "method" in settings:
            methods += settings["method"].get("enum", [settings["method"].get("const")])
    return methods
