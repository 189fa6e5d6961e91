"""Where each layer's keys and values lie in the one array that holds all caches."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from numprune_export.core.errors import InputError
from numprune_exporters.trt.profiles import Span

ALIGNMENT = 256
"""TensorRT takes tensor addresses that are multiples of this many bytes only."""


@dataclass(frozen=True)
class RowCopy:
    """A strided copy into the array, in bytes: `rows` times `width`."""

    offset: int
    """Of the first row in the array."""
    target_pitch: int
    source_pitch: int
    width: int
    rows: int


@dataclass(frozen=True)
class SlotLayout:
    """The array (heads, batch, slots, head_dim), layers one after the other along the heads."""

    heads: tuple[int, ...]
    """Of each cache input, in the order of the inputs: layer 0 keys, layer 0 values, layer 1 keys."""
    batch: int
    slots: int
    token_bytes: int
    """head_dim times the size of an element."""

    @property
    def size(self) -> int:
        return sum(self.heads) * self._head_bytes

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each cache input begins, in bytes."""
        before = [sum(self.heads[:index]) for index in range(len(self.heads))]
        return tuple(count * self._head_bytes for count in before)

    def copy(self, *, sequence: int, target: int, kept: int) -> RowCopy:
        """How new entries (heads, batch, sequence, head_dim) go to the slots from `target` on.

        The first `kept` tokens of each row are copied.
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
    """The slots of a cache for `capacity` tokens, so many that each layer begins aligned at any batch.

    Raises:
        InputError: the engine was not built for so many.

    >>> slots_for(1001, 64 * 2, Span(1, 512, 2048))
    1002
    """
    slots = aligned(max(capacity, span.min), token_bytes)
    if not 1 <= capacity <= slots <= span.max:
        raise InputError(
            f"capacity `{capacity}` needs `{slots}` slots, the engine was built for {span}",
            hint="ask for shorter sequences, or export with a larger `decode.capacity.max`",
        )
    return slots


def aligned(slots: int, token_bytes: int) -> int:
    """At least `slots`, and so many that each layer's part of the cache is aligned."""
    multiple = ALIGNMENT // gcd(ALIGNMENT, token_bytes)
    return -(-slots // multiple) * multiple
