"""Inference servers, found by entry point: a third party adds one without a change here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from numprune_export.core.errors import RecipeError
from numprune_export.core.plugins import make, registered
from numprune_export.export.exporter import Packager

GROUP = "numprune_export.servers"


def names() -> list[str]:
    return sorted(registered(GROUP))


def find(name: str) -> Packager:
    """The packager of this name; no other server is imported.

    Raises:
        RecipeError: there is no such server.
    """
    packager: Packager = make(GROUP, "server", name)
    return packager


def settings_for(packager: Packager, content: Mapping[str, Any]) -> BaseModel:
    """Settings for a server, checked by the server's own schema.

    Raises:
        RecipeError: the server has no such setting, or not with that value.
    """
    try:
        return packager.settings.model_validate(dict(content))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        known = ", ".join(packager.settings.model_fields)
        raise RecipeError(
            f"`{key}` of the server `{packager.name}` cannot be `{first['input']}`:"
            f" {message[0].lower() + message[1:]}",
            hint=f"settings of this server: {known}",
        ) from None


def assignments(changes: Sequence[str]) -> dict[str, Any]:
    """`key=value` words as settings; values are YAML.

    Raises:
        RecipeError: one is not `key=value`, or its value is not YAML.
    """
    found = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise RecipeError(
                f"`--set {change}` is not `key=value`", hint="for example `--set capacity=512`"
            )
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise RecipeError(
                f"`{value}` in `--set {change}` is not YAML", hint="quote it"
            ) from None
    return found
