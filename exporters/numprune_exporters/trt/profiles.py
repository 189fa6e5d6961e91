"""The shapes an engine is built for: one optimisation profile for prompts, one for decode steps.

A profile gives every dynamic dimension of the graph, by its name, a smallest, a best and a largest
value. Opening an artifact reads them from its facts, so this module needs neither pydantic nor torch.
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
    """Sizes that a dimension may have, and the one that is tuned for."""

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
    """How many tokens of a prompt get logits in one call."""
    decode_batch: Span
    capacity: Span
    """Slots of the KV cache. The largest is rounded up, so that every layer's part is aligned."""
    model_positions: int

    @property
    def dimensions(self) -> tuple[Mapping[str, Span], Mapping[str, Span]]:
        """The graph's dynamic dimensions in each profile. A prompt reads one empty slot."""
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
        """Raise InputError where no decode step with so many tokens was built."""
        most = min(self.capacity.max, self.model_positions)
        if not 1 <= capacity <= most:
            raise InputError(
                f"capacity `{capacity}` is outside the 1 to {most} tokens of engine and model",
                hint="ask for shorter sequences, or export with a larger `decode.capacity.max`",
            )

    def require_prompt(self, batch: int, length: int, positions: int) -> None:
        """Raise InputError for a prompt, or its decode steps, of a shape that was not built."""
        asked = (
            ("batch", "prefill.batch", batch, self.prefill_batch),
            ("batch", "decode.batch", batch, self.decode_batch),
            ("prompt length", "prefill.length", length, self.length),
            ("logits positions", "prefill.positions", positions, self.positions),
        )
        for what, key, size, span in asked:
            if not span.holds(size):
                raise InputError(
                    f"{what} `{size}` is outside the {span} the engine was built for",
                    hint=f"ask for less, or change `{key}` of the target and export again",
                )

    def facts(self) -> dict[str, dict[str, list[int]]]:
        """As the artifact keeps them: min, opt, max by profile and dimension."""
        return {
            "prefill": {
                "batch": _listed(self.prefill_batch),
                "length": _listed(self.length),
                "positions": _listed(self.positions),
            },
            "decode": {"batch": _listed(self.decode_batch), "capacity": _listed(self.capacity)},
        }

    def prefill_shapes(self, steps: int) -> dict[str, list[int]]:
        """Prompts at every corner of the prefill profile that can be followed by `steps` tokens."""
        room = min(self.capacity.max, self.model_positions) - steps
        found = {}
        for corner in ("min", "opt", "max"):
            batch = getattr(self.prefill_batch, corner)
            length = min(getattr(self.length, corner), room)
            if self.decode_batch.holds(batch) and self.length.holds(length):
                found[corner] = [batch, length]
        return found


def from_facts(facts: Mapping[str, Any]) -> Profiles:
    """What `Profiles.facts` wrote under `profiles`, and `max_positions`.

    Raises:
        InputError: it is not there, or not complete.
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
    """Smallest, best and largest shape of an input whose dynamic dimensions stand as names."""

    def at(corner: str) -> Shape:
        return tuple(getattr(spans[dim], corner) if isinstance(dim, str) else dim for dim in shape)

    return at("min"), at("opt"), at("max")


def _listed(span: Span) -> list[int]:
    return [span.min, span.opt, span.max]
