"""A recipe from a YAML file, or one clear message about what is wrong with it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from numprune_export.core.errors import RecipeError
from numprune_export.recipe.presets import FILLED
from numprune_export.recipe.schema import UNIONS, Recipe


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, refusing a key given twice where YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"key `{key}` is given twice")
        return super().construct_mapping(node, deep)


def load(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `key=value` changes to it before it is checked.

    Raises:
        RecipeError: not readable, not YAML, or something in it is not allowed.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read `{path}`: {error}", hint="check the file") from None
    except yaml.YAMLError as error:
        raise RecipeError(
            f"`{path}` is not YAML: {' '.join(str(error).split())}", hint="mend its syntax"
        ) from None
    if not isinstance(content, dict):
        raise RecipeError(
            f"`{path}` is not a recipe", hint="it must be a mapping with `version: 1`"
        )
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
    key, equals, value = change.partition("=")
    if not equals or not key:
        raise RecipeError(
            f"`--set {change}` is not `key=value`", hint="for example `--set keep=0.7`"
        )
    *path, last = key.split(".")
    for part in path:
        inner = content.get(part)
        if isinstance(inner, str):
            inner = {"source" if part == "model" else "method": inner}
        content[part] = dict(inner) if isinstance(inner, dict) else {}
        content = content[part]
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError(f"`{value}` in `--set {change}` is not YAML", hint="quote it") from None


def _explain(error: ValidationError, name: str) -> RecipeError:
    first = error.errors()[0]
    # Union members add their tag to the location: `score.numerical.penalty` reads `score.penalty`.
    location = [str(part) for part in first["loc"]]
    if len(location) > 1 and location[0] in UNIONS:
        del location[1]
    key = ".".join(location) or "recipe"
    message = first["msg"][0].lower() + first["msg"][1:]
    value = f" (got `{first['input']}`)" if isinstance(first["input"], str | int | float) else ""
    if first["type"] == "extra_forbidden":
        return RecipeError(f"{name}: unknown key `{key}`", hint=_closest(location))
    if first["type"] == "union_tag_not_found":
        return RecipeError(
            f"{name}: `{key}` does not say its `method`",
            hint=f"for example `--set {key}.method={_methods(key)[0]}`; there are also: "
            + ", ".join(_methods(key)[1:]),
        )
    if first["type"] == "union_tag_invalid":
        message = f"unknown method, expected one of {first['ctx']['expected_tags']}"
        value = f" (got `{first['ctx']['tag']}`)"
    more = f"; {error.error_count() - 1} more" if error.error_count() > 1 else ""
    return RecipeError(
        f"{name}: `{key}`: {message}{value}{more}",
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
