"""Layout of all layers' keys and values in one cache array."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from numprune_export.core.errors import InputError
from numprune_exporters.trt.profiles import Span

ALIGNMENT = 256
"""Alignment in bytes that TensorRT requires of tensor addresses."""


@dataclass(frozen=True)
class RowCopy:
    """A strided copy into the array: `rows` rows of `width` bytes. Offset and pitches in bytes."""

    offset: int
    """Offset of the first row in the array."""
    target_pitch: int
    source_pitch: int
    width: int
    rows: int


@dataclass(frozen=True)
class SlotLayout:
    """The array (heads, batch, slots, head_dim), with all layers concatenated along the heads."""

    heads: tuple[int, ...]
    """KV heads of each cache input, in input order: layer 0 keys, layer 0 values, layer 1 keys."""
    batch: int
    slots: int
    token_bytes: int
    """head_dim times the size of an element."""

    @property
    def size(self) -> int:
        return sum(self.heads) * self._head_bytes

    @property
    def offsets(self) -> tuple[int, ...]:
        """Offset of each cache input in bytes."""
        before = [sum(self.heads[:index]) for index in range(len(self.heads))]
        return tuple(count * self._head_bytes for count in before)

    def copy(self, *, sequence: int, target: int, kept: int) -> RowCopy:
        """The copy of new entries (heads, batch, sequence, head_dim) to the slots from `target` on.

        It copies the first `kept` tokens of each row.
        """
        return RowCopy(
            offset=target * self.token_bytes,
            target_pitch=self.slots * self.token_bytes,
            source_pitch=sequence * self.token_bytes,
            width=kept * self.token_bytes,
            rows=sum(self.heads) * self.batch,
        )

    @property
    def _head_bytes(self) -> int:
        return self.batch * self.slots * self.token_bytes


def slots_for(capacity: int, token_bytes: int, span: Span) -> int:
    """Number of cache slots for `capacity` tokens such that every layer is aligned at any batch.

    Raises:
        InputError: the number is outside the engine's profile.

    >>> slots_for(1001, 64 * 2, Span(1, 512, 2048))
    1002
    """
    slots = aligned(max(capacity, span.min), token_bytes)
    if not 1 <= capacity <= slots <= span.max:
        raise InputError(
            f"capacity `{capacity}` needs `{slots}` slots, the engine was built for {span}",
            hint="use shorter sequences, or export with a larger `decode.capacity.max`",
        )
    return slots


def aligned(slots: int, token_bytes: int) -> int:
    """`slots` rounded up so that each layer's part of the cache is aligned."""
    multiple = ALIGNMENT // gcd(ALIGNMENT, token_bytes)
    return -(-slots // multiple) * multiple
