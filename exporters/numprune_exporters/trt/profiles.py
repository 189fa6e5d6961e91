"""The shapes of an engine: one optimisation profile for prefill, one for decode.

A profile gives each named dynamic dimension of the graph a smallest, a best and a largest value.
Opening an artifact reads them from its facts, so this module imports neither pydantic nor torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numprune_export.core.errors import InputError

Shape = tuple[int, ...]
PREFILL, DECODE = 0, 1
"""Index of each profile in the engine."""


@dataclass(frozen=True)
class Span:
    """Smallest, best (tuned) and largest size of a dimension."""

    min: int
    opt: int
    max: int

    def holds(self, size: int) -> bool:
        return self.min <= size <= self.max

    def __str__(self) -> str:
        return f"{self.min} to {self.max}"


_ONE = Span(1, 1, 1)


@dataclass(frozen=True)
class Profiles:
    """Both profiles of one engine."""

    prefill_batch: Span
    length: Span
    """Prompt tokens."""
    positions: Span
    """Tokens of a prompt whose logits are returned in one call."""
    decode_batch: Span
    capacity: Span
    """Slots of the KV cache. The largest is rounded up so that every layer's part is aligned."""
    model_positions: int

    @property
    def dimensions(self) -> tuple[Mapping[str, Span], Mapping[str, Span]]:
        """Dynamic dimensions of the graph in each profile. Prefill reads one empty slot."""
        prefill = {
            "batch": self.prefill_batch,
            "sequence": self.length,
            "k": self.positions,
            "capacity": _ONE,
        }
        decode = {
            "batch": self.decode_batch,
            "sequence": _ONE,
            "k": _ONE,
            "capacity": self.capacity,
        }
        return prefill, decode

    def require_capacity(self, capacity: int) -> None:
        """Raise InputError if `capacity` is outside the decode profile."""
        most = min(self.capacity.max, self.model_positions)
        if not 1 <= capacity <= most:
            raise InputError(
                f"capacity `{capacity}` is outside the 1 to {most} tokens of engine and model",
                hint="use shorter sequences, or export with a larger `decode.capacity.max`",
            )

    def require_prompt(self, batch: int, length: int, positions: int) -> None:
        """Raise InputError if a prompt or its decode steps are outside the profiles."""
        checks = (
            ("batch", "prefill.batch", batch, self.prefill_batch),
            ("batch", "decode.batch", batch, self.decode_batch),
            ("prompt length", "prefill.length", length, self.length),
            ("logits positions", "prefill.positions", positions, self.positions),
        )
        for dimension, key, size, span in checks:
            if not span.holds(size):
                raise InputError(
                    f"{dimension} `{size}` is outside the {span} the engine was built for",
                    hint=f"change it, or change `{key}` of the target and export again",
                )

    def facts(self) -> dict[str, dict[str, list[int]]]:
        """For the artifact's facts: [min, opt, max] by profile and dimension."""
        return {
            "prefill": {
                "batch": _listed(self.prefill_batch),
                "length": _listed(self.length),
                "positions": _listed(self.positions),
            },
            "decode": {"batch": _listed(self.decode_batch), "capacity": _listed(self.capacity)},
        }

    def prefill_shapes(self, steps: int) -> dict[str, list[int]]:
        """[batch, length] at each corner of the prefill profile that leaves `steps` more tokens."""
        room = min(self.capacity.max, self.model_positions) - steps
        shapes = {}
        for corner in ("min", "opt", "max"):
            batch = getattr(self.prefill_batch, corner)
            length = min(getattr(self.length, corner), room)
            if self.decode_batch.holds(batch) and self.length.holds(length):
                shapes[corner] = [batch, length]
        return shapes


def from_facts(facts: Mapping[str, Any]) -> Profiles:
    """Profiles from an artifact's facts `profiles` and `max_positions`.

    Raises:
        InputError: these facts are missing or incomplete.
    """
    try:
        prefill, decode = facts["profiles"]["prefill"], facts["profiles"]["decode"]
        spans = (
            Span(*prefill["batch"]),
            Span(*prefill["length"]),
            Span(*prefill["positions"]),
            Span(*decode["batch"]),
            Span(*decode["capacity"]),
        )
        positions = int(facts["max_positions"])
    except (KeyError, TypeError) as error:
        raise InputError(
            f"the artifact's index does not state its engine profiles: {error}",
            hint="export the model again",
        ) from None
    return Profiles(*spans, positions)


def corners(shape: Sequence[int | str], spans: Mapping[str, Span]) -> tuple[Shape, Shape, Shape]:
    """Smallest, best and largest shape of an input; its dynamic dimensions are names."""

    def at(corner: str) -> Shape:
        return tuple(getattr(spans[dim], corner) if isinstance(dim, str) else dim for dim in shape)

    return at("min"), at("opt"), at("max")


def _listed(span: Span) -> list[int]:
    return [span.min, span.opt, span.max]
