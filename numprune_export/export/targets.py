"""Export targets, registered by entry point, so that third parties can add their own."""

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
    """The exporter named `name`; no other target is imported.

    Raises:
        RecipeError: there is no such target.
    """
    exporter: Exporter = make(GROUP, "export target", name)
    return exporter


def settings_for(exporter: Exporter, content: Mapping[str, Any]) -> BaseModel:
    """Validate a recipe's settings for a target with the target's schema.

    Raises:
        RecipeError: unknown settings or invalid values; all of them are reported.
    """
    try:
        return exporter.settings.model_validate(dict(content))
    except ValidationError as error:
        hint = f"settings of this target: {', '.join(exporter.settings.model_fields)}"
        problems: dict[str, list[str]] = {}
        for detail in error.errors():
            # For unions, pydantic adds the tried type, such as `literal['gqa']`, to the path.
            path = [part for part in detail["loc"] if "[" not in str(part)]
            key = f"targets.{exporter.name}.{key_of({'loc': path})}"
            problems.setdefault(key, []).append(problem_of(detail))
        mistakes = [
            RecipeError(f"`{key}`: {', or '.join(dict.fromkeys(messages))}", hint=hint)
            for key, messages in problems.items()
        ]
        raise together(mistakes) from None


def require_ready(exporter: Exporter) -> Availability:
    """Check that a target can export on this machine.

    Raises:
        MissingExtraError: it cannot; the hint is the install command.
    """
    availability = exporter.availability()
    if not availability.ready:
        raise MissingExtraError(
            f"target `{exporter.name}` cannot run here: {availability.detail}",
            hint=availability.install or "see `numprune-export doctor`",
        )
    return availability
