"""What transformers calls a model's KV cache: `cache` since 5.24, `past_key_values` before."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicLayer

_NAMES = ("cache", "past_key_values")


def cache_argument(model: PreTrainedModel) -> str:
    """Name under which `model.forward` takes keys and values of the tokens before.

    The older name is still taken by newer versions, with a warning, and is to go in 5.40.

    Raises:
        ValueError: it takes them under no name known here.
    """
    taken = inspect.signature(model.forward).parameters
    for name in _NAMES:
        if name in taken:
            return name
    raise ValueError(f"`{type(model).__name__}.forward` takes no KV cache")


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc] # transformers has no types here
    """`DynamicLayer` copies all that came before at every token; `StaticLayer` attends to room that is still
    empty, behind a mask, with every key repeated for each of its query heads. This does neither.
    """

    def __init__(self, room: int) -> None:
        """Room for so many tokens. Writing more of them raises RuntimeError, from PyTorch."""
        super().__init__()
        self.room = room
        self.filled = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.all_keys = _room(key_states, self.room)
        # Values may be shorter numbers than rotated keys, and would be converted anew at every token.
        self.all_values = _room(value_states.to(self.dtype), self.room)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add keys and values of shape (rows, KV heads, tokens, head dim); all so far."""
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
