"""Parse user-written YAML; every defect is a YamlError that names the value."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from numprune_export.core import text_file
from numprune_export.core.errors import InputError, RecipeError
from numprune_export.core.paths import shortened


class YamlError(ValueError):
    """The text is not usable YAML; the message is one line."""


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe file without validating it.

    Raises:
        RecipeError: the file is not readable, not YAML, or not a mapping.
    """
    try:
        content = parse(text_file.read(path))
    except InputError as error:
        raise RecipeError(str(error), hint=error.hint) from None
    except YamlError as error:
        raise RecipeError(f"`{path}` is not YAML: {error}", hint="fix the YAML syntax") from None
    if not isinstance(content, dict):
        raise RecipeError(
            f"`{path}` is not a recipe", hint="it must be a mapping with `version: 1`"
        )
    return content


def assignment(change: str, *, example: str) -> tuple[str, Any]:
    """Split `key=value` and parse the value as YAML.

    Args:
        change: The argument of `--set`.
        example: A valid argument, shown in the hint.

    Raises:
        RecipeError: `change` is not `key=value`, or the value is not YAML.
    """
    key, equals, value = change.partition("=")
    if not equals or not key:
        raise RecipeError(
            f"`--set {shortened(change)}` is not `key=value`",
            hint=f"for example `--set {example}`",
        )
    try:
        return key, parse(value)
    except YamlError as error:
        raise RecipeError(
            f"the value in `--set {shortened(change)}` is not YAML: {error}", hint="quote it"
        ) from None


def parse(text: str) -> Any:
    """Parse a YAML text.

    As in the YAML 1.2 core schema, `yes`, `no`, `on`, `off` and dates are strings. Duplicate keys
    are rejected.

    Raises:
        YamlError: not YAML, a value that does not fit its tag, a duplicate key, or an unpaired
            surrogate.
    """
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise YamlError(" ".join(str(error).split())) from None
    except RecursionError:
        raise YamlError("it is nested too deeply") from None
    except ValueError as error:  # raised by PyYAML's reader for surrogates
        raise YamlError(str(error)) from None
    return content


_UNBUILDABLE = (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError)
_MERGE = "tag:yaml.org,2002:merge"
_LONGEST = 40
"""Maximum number of characters of a value in a message."""


class _Loader(yaml.SafeLoader):
    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Build a value; turn built-in exceptions into YAMLErrors that name the value."""
        try:
            built = super().construct_object(node, deep=deep)
        except _UNBUILDABLE as error:
            raise yaml.YAMLError(
                f"line {node.start_mark.line + 1}: `{_shown(node)}` is not a value of type"
                f" `{node.tag.rpartition(':')[2]}`"
            ) from error
        if isinstance(built, str) and any("\ud800" <= letter <= "\udfff" for letter in built):
            raise yaml.YAMLError(
                f"line {node.start_mark.line + 1}: a text holds an unpaired surrogate"
            )
        return built

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping; reject duplicate keys, of which PyYAML would keep the last."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != _MERGE]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"key `{key}` is given twice")
        return super().construct_mapping(node, deep)


def _shown(node: yaml.Node) -> str:
    value = node.value if isinstance(node.value, str) else node.tag
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…"


_BOOLEANS = ("true", "True", "TRUE", "false", "False", "FALSE")
_TAGS = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
_Loader.yaml_implicit_resolvers = {
    start: [(tag, pattern) for tag, pattern in resolvers if tag not in _TAGS]
    for start, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(f"(?:{'|'.join(_BOOLEANS)})\\Z"), list("tTfF")
)
