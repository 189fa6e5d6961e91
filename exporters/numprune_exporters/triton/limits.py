"""What an artifact can hold, and what a package of it therefore promises."""

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
    """Of one package."""

    capacity: int
    """Longest sequence in tokens, prompt and generated."""
    batch: int
    """Requests answered together."""
    longest_prompt: int
    """Tokens that one prefill takes; the rest of a longer prompt is decoded."""


def limits(artifact: Artifact, settings: TritonSettings) -> Limits:
    """What the settings ask for, or what suits where they say nothing.

    Raises:
        RecipeError: the artifact cannot hold what they ask for.
    """
    profiles = artifact.facts.get("profiles", {})
    prefill, decode = profiles.get("prefill", {}), profiles.get("decode", {})
    positions = int(artifact.facts["max_positions"])
    least, most = _ends(decode, "capacity", positions)
    capacity = settings.capacity or min(most, max(least, COMMON_CAPACITY))
    _require("capacity", capacity, least, min(most, positions))
    largest = min(_ends(one, "batch", LARGEST_BATCH)[1] for one in (prefill, decode))
    batch = settings.max_batch or min(largest, COMMON_BATCH)
    _require("max_batch", batch, 1, largest)
    return Limits(capacity, batch, min(capacity, _ends(prefill, "length", capacity)[1]))


def _ends(profile: Mapping[str, Any], name: str, otherwise: int) -> tuple[int, int]:
    """Smallest and largest size of a dimension that an engine was built for."""
    sizes = profile.get(name, [1, otherwise])
    return int(sizes[0]), int(sizes[-1])


def _require(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise RecipeError(
            f"`{name}` cannot be `{value}`: this artifact takes `{least}` to `{most}`",
            hint=f"set `{name}` to at most {most}, or export with other limits",
        )
