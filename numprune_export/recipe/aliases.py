"""Old recipe keys of version 0.1, accepted until version 0.3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from numprune_export.core.errors import RecipeError

RENAMED: Mapping[tuple[str, ...], str] = {
    ("products",): "matmul_precision",
    ("self_calibration",): "generated_text",
    ("generated_text", "starts"): "prompts",
    ("score", "every"): "token_stride",
    ("compensate", "every"): "token_stride",
    ("compensate", "producers", "every"): "token_stride",
    ("compensate", "producers", "spared_every"): "spared_token_stride",
}
"""Path of an old key, with the present names of its sections, to the present name of the key."""


def present_names(content: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's content with every old key replaced by its present name.

    Raises:
        RecipeError: a setting is given under both names.
    """
    renamed = dict(content)
    for path, new in RENAMED.items():
        section = _section(renamed, path[:-1])
        if section is None or path[-1] not in section:
            continue
        if new in section:
            raise RecipeError(
                f"`{'.'.join(path)}` and `{new}` are the same setting",
                hint=f"keep `{new}`: it is the present name",
            )
        section[new] = section.pop(path[-1])
    return renamed


def notices(content: Mapping[str, Any]) -> Iterator[str]:
    """One line per old key that a recipe's content has."""
    current = dict(content)
    for path, new in RENAMED.items():
        section = _section(current, path[:-1])
        if section is not None and path[-1] in section:
            section[new] = section.pop(path[-1])
            yield f"`{'.'.join(path)}` is now called `{new}`; the old name works until version 0.3"


def _section(content: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any] | None:
    """The mapping at a path; mappings on the path are copied, so the caller's data is unchanged."""
    section = content
    for key in path:
        inner = section.get(key)
        if not isinstance(inner, Mapping):
            return None
        section[key] = dict(inner)
        section = section[key]
    return section
