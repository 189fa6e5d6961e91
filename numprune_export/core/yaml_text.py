"""YAML that users write: whatever is wrong with it is one error, which names the value."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from numprune_export.core import text_file
from numprune_export.core.errors import InputError, RecipeError
from numprune_export.core.paths import shortened


class YamlError(ValueError):
    """The text is not YAML that settings can be read from; the message is one line."""


def read_recipe(path: Path) -> dict[str, Any]:
    """The content of a recipe file, unchecked.

    Raises:
        RecipeError: not readable, not YAML, or no mapping.
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
    """The key and the value, read as YAML, of a `key=value`.

    Args:
        change: As it was given with `--set`.
        example: For the hint: a change that would do.

    Raises:
        RecipeError: it is not of that form, or the value is not YAML.
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
    """The content of a YAML text.

    Scalars are read as YAML 1.2's core schema reads them where 1.1 surprises: `yes`, `no`, `on` and
    `off` are words, and so is a date. A key given twice is refused.

    Raises:
        YamlError: no YAML, a value that its tag cannot hold, or half of a surrogate pair.
    """
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise YamlError(" ".join(str(error).split())) from None
    except RecursionError:
        raise YamlError("it is nested too deeply") from None
    except ValueError as error:  # the reader's, of surrogates
        raise YamlError(str(error)) from None
    return content


_UNBUILDABLE = (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError)
_MERGE = "tag:yaml.org,2002:merge"
_LONGEST = 40
"""Characters of a value that a message shows."""


class _Loader(yaml.SafeLoader):
    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """A value, or an error that names it where PyYAML raises one of Python's own."""
        try:
            built = super().construct_object(node, deep=deep)
        except _UNBUILDABLE as error:
            raise yaml.YAMLError(
                f"line {node.start_mark.line + 1}: `{_shown(node)}` is not a value of type"
                f" `{node.tag.rpartition(':')[2]}`"
            ) from error
        if isinstance(built, str) and any("\ud800" <= letter <= "\udfff" for letter in built):
            raise yaml.YAMLError(
                f"line {node.start_mark.line + 1}: a text holds half of a surrogate pair"
            )
        return built

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping without a key given twice, where YAML would silently keep the last."""
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
