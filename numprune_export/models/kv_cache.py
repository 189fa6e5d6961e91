"""What transformers calls a model's KV cache: `cache` since 5.24, `past_key_values` before."""

from __future__ import annotations

import inspect

from transformers import PreTrainedModel

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
