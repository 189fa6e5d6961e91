"""Export targets, found by entry point: a third party adds one without a change here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from numprune_export.core.errors import MissingExtraError, RecipeError, together
from numprune_export.core.plugins import make, registered
from numprune_export.core.setting_errors import key_of, problem_of
from numprune_export.export.exporter import Availability, Exporter

GROUP = "numprune_export.exporters"


def names() -> list[str]:
    return sorted(registered(GROUP))


def find(name: str) -> Exporter:
    """The exporter of this name; no other target is imported.

    Raises:
        RecipeError: there is no such target.
    """
    exporter: Exporter = make(GROUP, "export target", name)
    return exporter


def settings_for(exporter: Exporter, content: Mapping[str, Any]) -> BaseModel:
    """A recipe's settings for a target, checked by the target's own schema.

    Raises:
        RecipeError: every setting that the target does not have, or not with that value.
    """
    try:
        return exporter.settings.model_validate(dict(content))
    except ValidationError as error:
        hint = f"settings of this target: {', '.join(exporter.settings.model_fields)}"
        problems: dict[str, list[str]] = {}
        for detail in error.errors():
            # A union adds the type that it tried, such as `literal['gqa']`, as if it were a key.
            path = [part for part in detail["loc"] if "[" not in str(part)]
            key = f"targets.{exporter.name}.{key_of({'loc': path})}"
            problems.setdefault(key, []).append(problem_of(detail))
        mistakes = [
            RecipeError(f"`{key}`: {', or '.join(dict.fromkeys(messages))}", hint=hint)
            for key, messages in problems.items()
        ]
        raise together(mistakes) from None


def require_ready(exporter: Exporter) -> Availability:
    """Refuse a target that cannot export here.

    Raises:
        MissingExtraError: with the install line.
    """
    found = exporter.availability()
    if not found.ready:
        raise MissingExtraError(
            f"target `{exporter.name}` cannot run here: {found.detail}",
            hint=found.install or "see `numprune-export doctor`",
        )
    return found
