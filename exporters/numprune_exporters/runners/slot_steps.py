"""Run the slot graph on any device: assigns tokens to cache slots and tracks their positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from numprune_export.export.runner import Logits, Tokens

PAST = "past_key_values"
"""Prefix of the cache inputs, `.{layer}.{key,value}`."""
NEW = "new_key_values"
"""The output with the new entries of all layers."""


@dataclass(frozen=True)
class SlotCall:
    """One run of the graph. All arrays are int64 and contiguous."""

    tokens: Tokens
    """(batch, sequence)."""
    places: Tokens
    """(batch, sequence): the position of each token in its row."""
    asked: Tokens
    """(batch, k): indices of the tokens whose logits are returned."""
    slots: Tokens
    """(batch, slots read): the position in each slot, -1 for an empty slot."""
    target: int
    """Slot of the first new entry."""
    kept: int
    """Number of new entries written to the cache; the rest is padding in every row."""


class SlotDevice(Protocol):
    """Runs calls; holds all layers' caches as one array (heads, batch, capacity, head_dim)."""

    def allocate(self, batch: int) -> None:
        """Allocate the cache for `batch` rows, or keep it if it has that size."""
        ...

    def prefill(self, call: SlotCall) -> Logits:
        """Run a call that reads one empty slot: fp32 logits (batch, k, vocabulary) on the host."""
        ...

    def decode(self, call: SlotCall) -> Logits:
        """Run a call of one token per row that reads all slots."""
        ...


class SlotSteps:
    """Steps of a CheckedRunner. All rows use the same slots; a shorter row leaves some empty."""

    def __init__(self, device: SlotDevice, *, capacity: int) -> None:
        self.device = device
        self._capacity = capacity
        self._filled = 0
        self._slots = np.zeros((0, capacity), np.int64)

    def prefill(self, tokens: Tokens, lengths: Tokens, positions: Tokens) -> Logits:
        """Logits (batch, k, vocabulary) of new right-padded sequences."""
        batch, width = tokens.shape
        self.device.allocate(batch)
        places = np.tile(np.arange(width, dtype=np.int64), (batch, 1))
        empty = np.full((batch, 1), -1, np.int64)
        self._filled = int(lengths.max())
        call = SlotCall(
            np.ascontiguousarray(tokens), places, np.ascontiguousarray(positions), empty,
            target=0, kept=self._filled,
        )  # fmt: skip
        logits = self.device.prefill(call)
        self._slots = np.full((batch, self._capacity), -1, np.int64)
        filled = places[:, : self._filled]
        self._slots[:, : self._filled] = np.where(filled < lengths[:, None], filled, -1)
        return logits

    def decode(self, tokens: Tokens, lengths: Tokens) -> Logits:
        """Logits (batch, 1, vocabulary) after one more token; `lengths` include it."""
        places = (lengths - 1)[:, None]
        first = np.zeros((len(tokens), 1), np.int64)
        call = SlotCall(tokens[:, None], places, first, self._slots, target=self._filled, kept=1)
        logits = self.device.decode(call)
        self._slots[:, self._filled] = lengths - 1
        self._filled += 1
        return logits
