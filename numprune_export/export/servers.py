"""Inference servers, registered by entry point, so that third parties can add their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from numprune_export.core.errors import RecipeError
from numprune_export.core.plugins import make, registered
from numprune_export.core.setting_errors import key_of, problem_of
from numprune_export.core.yaml_text import assignment
from numprune_export.export.exporter import Packager

GROUP = "numprune_export.servers"


def names() -> list[str]:
    return sorted(registered(GROUP))


def find(name: str) -> Packager:
    """The packager named `name`; no other server is imported.

    Raises:
        RecipeError: there is no such server.
    """
    packager: Packager = make(GROUP, "server", name)
    return packager


def settings_for(packager: Packager, content: Mapping[str, Any]) -> BaseModel:
    """Validate settings with the server's schema.

    Raises:
        RecipeError: an unknown setting, or an invalid value.
    """
    try:
        return packager.settings.model_validate(dict(content))
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join(packager.settings.model_fields)
        raise RecipeError(
            f"`{key_of(first)}` of the server `{packager.name}`: {problem_of(first)}",
            hint=f"settings of this server: {known}",
        ) from None


def assignments(changes: Sequence[str]) -> dict[str, Any]:
    """Parse `key=value` arguments; values are YAML.

    Raises:
        RecipeError: an argument is not `key=value`, or its value is not YAML.
    """
    return dict(assignment(change, example="capacity=512") for change in changes)
