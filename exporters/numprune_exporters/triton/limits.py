"""Limits of an artifact, and the limits of a package within them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numprune_export.core.errors import RecipeError
from numprune_export.export.artifact import Artifact
from numprune_exporters.triton.settings import TritonSettings

COMMON_CAPACITY = 2048
COMMON_BATCH = 8
LARGEST_BATCH = 1024


@dataclass(frozen=True)
class Limits:
    """Limits of one package."""

    capacity: int
    """Longest sequence in tokens, prompt and generated."""
    batch: int
    """Requests per batch."""
    longest_prompt: int
    """Most tokens of one prefill; the rest of a longer prompt is decoded."""


def limits(artifact: Artifact, settings: TritonSettings) -> Limits:
    """Limits from the settings; defaults where they are not set.

    Raises:
        RecipeError: the settings exceed the limits of the artifact.
    """
    profiles = artifact.facts.get("profiles", {})
    prefill, decode = profiles.get("prefill", {}), profiles.get("decode", {})
    positions = int(artifact.facts["max_positions"])
    least, most = _ends(decode, "capacity", positions)
    capacity = settings.capacity or min(most, max(least, COMMON_CAPACITY))
    _require("capacity", capacity, least, min(most, positions))
    largest = min(_ends(profile, "batch", LARGEST_BATCH)[1] for profile in (prefill, decode))
    batch = settings.max_batch or min(largest, COMMON_BATCH)
    _require("max_batch", batch, 1, largest)
    return Limits(capacity, batch, min(capacity, _ends(prefill, "length", capacity)[1]))


def _ends(profile: Mapping[str, Any], name: str, otherwise: int) -> tuple[int, int]:
    """Smallest and largest size of a dimension in an engine's profile."""
    sizes = profile.get(name, [1, otherwise])
    return int(sizes[0]), int(sizes[-1])


def _require(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise RecipeError(
            f"`{name}` cannot be `{value}`: this artifact takes `{least}` to `{most}`",
            hint=f"set `{name}` to at most {most}, or export with other limits",
        )
