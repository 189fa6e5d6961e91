"""KV cache: the name of its argument in transformers, and a layer with preallocated storage."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicLayer

_NAMES = ("cache", "past_key_values")


def cache_argument(model: PreTrainedModel) -> str:
    """Name of the KV cache argument of `model.forward`: `cache` since transformers 5.24.

    It was `past_key_values` before, which newer versions accept with a warning until 5.40.

    Raises:
        ValueError: `forward` has no argument of either name.
    """
    parameters = inspect.signature(model.forward).parameters
    for name in _NAMES:
        if name in parameters:
            return name
    raise ValueError(f"`{type(model).__name__}.forward` takes no KV cache")


def cached_per_token(model: PreTrainedModel) -> int:
    """Numbers in the KV cache per token, over all layers of a decoder."""
    ends = (".k_proj", ".v_proj")
    layers: list[Any] = [layer for name, layer in model.named_modules() if name.endswith(ends)]
    return sum(int(layer.out_features) for layer in layers)


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc] # transformers has no types here
    """KV-cache layer with preallocated storage.

    `DynamicLayer` copies all keys and values at every token. `StaticLayer` attends to unused slots
    under a mask, with keys repeated for each query head. This layer does neither.
    """

    def __init__(self, room: int) -> None:
        """`room`: capacity in tokens. Writing more raises a RuntimeError of PyTorch."""
        super().__init__()
        self.room = room
        self.filled = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.all_keys = _room(key_states, self.room)
        # Values may have a narrower dtype than rotated keys; convert once, not at every token.
        self.all_values = _room(value_states.to(self.dtype), self.room)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append keys and values, (rows, KV heads, tokens, head dim); returns all stored ones."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.filled = self.filled, self.filled + key_states.shape[2]
        self.all_keys[:, :, start : self.filled] = key_states
        self.all_values[:, :, start : self.filled] = value_states
        self.keys = self.all_keys[:, :, : self.filled]
        self.values = self.all_values[:, :, : self.filled]
        return self.keys, self.values


def _room(like: Tensor, tokens: int) -> Tensor:
    rows, heads, _, width = like.shape
    return like.new_empty(rows, heads, tokens, width)
