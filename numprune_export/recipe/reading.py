"""A recipe from a YAML file, or one clear message about what is wrong with it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from numprune_export.core.errors import RecipeError
from numprune_export.core.paths import shortened
from numprune_export.core.setting_errors import key_of, problem_of
from numprune_export.core.yaml_text import assignment, read_recipe
from numprune_export.recipe.presets import FILLED
from numprune_export.recipe.schema import UNIONS, Recipe


def load(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `key=value` changes to it before it is checked.

    Raises:
        RecipeError: not readable, not YAML, or something in it is not allowed.
    """
    content = read_recipe(path)
    apply(content, changes)
    return parse(content, path.name)


def parse(content: dict[str, Any], name: str) -> Recipe:
    """Check a recipe's content; `name` is used in messages.

    Raises:
        RecipeError: the first thing in it that is not allowed, by its dotted key.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise _explain(error, name) from None


def apply(content: dict[str, Any], changes: Sequence[str]) -> None:
    """Change a recipe's content by `key=value` each. A preset named so takes the place of what the
    recipe says of the same, wherever it stands among the changes.

    Raises:
        RecipeError: a change is not of that form.
    """
    if any(change.partition("=")[0] == "method" for change in changes):
        for key in FILLED:
            content.pop(key, None)
    for change in changes:
        _apply_one(content, change)


def _apply_one(content: dict[str, Any], change: str) -> None:
    key, value = assignment(change, example="keep=0.7")
    *path, last = key.split(".")
    for part in path:
        inner = content.get(part)
        if isinstance(inner, str):
            inner = {"source" if part == "model" else "method": inner}
        content[part] = dict(inner) if isinstance(inner, dict) else {}
        content = content[part]
    content[last] = value


def _explain(error: ValidationError, name: str) -> RecipeError:
    first = error.errors()[0]
    # Union members add their tag to the location: `score.numerical.penalty` reads `score.penalty`.
    location = [str(part) for part in first["loc"]]
    if len(location) > 1 and location[0] in UNIONS:
        del location[1]
    key = key_of({"loc": location}) or "recipe"
    problem = problem_of(first)
    if first["type"] == "extra_forbidden":
        return RecipeError(f"{name}: unknown key `{key}`", hint=_closest(location))
    if first["type"] == "union_tag_not_found":
        return RecipeError(
            f"{name}: `{key}` does not say its `method`",
            hint=f"for example `--set {key}.method={_methods(key)[0]}`; there are also: "
            + ", ".join(_methods(key)[1:]),
        )
    if first["type"] == "union_tag_invalid":
        tag, tags = first["ctx"]["tag"], first["ctx"]["expected_tags"].replace("'", "`")
        problem = f"unknown method `{shortened(str(tag))}`, expected one of {tags}"
    more = f"; {error.error_count() - 1} more" if error.error_count() > 1 else ""
    return RecipeError(
        f"{name}: `{key}`: {problem}{more}",
        hint="see recipes/schema.json, or `numprune-export schema`",
    )


def _closest(location: list[str]) -> str:
    """Where an unknown key would be known, or which known key it resembles, anywhere in the schema."""
    last = location[-1]
    if len(location) > 1 and (methods := _methods(location[0], last)):
        return f"`{last}` is a setting of `{location[0]}` with `method: {' or '.join(methods)}`"
    known = set(Recipe.model_fields)
    for section in Recipe.model_json_schema()["$defs"].values():
        known |= set(section.get("properties", {}))
    close = difflib.get_close_matches(last, sorted(known - {last}), n=1)
    return f"did you mean `{close[0]}`?" if close else "see `numprune-export schema` for all keys"


def _methods(section: str, setting: str = "method") -> list[str]:
    """Methods of a section that have such a setting."""
    schema, found = Recipe.model_json_schema(), []
    for one in schema["properties"].get(section, {}).get("oneOf", []):
        settings = schema["$defs"][one["$ref"].rpartition("/")[2]]["properties"]
        if setting in settings and "method" in settings:
            found += settings["method"].get("enum", [settings["method"].get("const")])
    return found
