"""The loss of a decoder that needs no labels but the text: cross-entropy of every next token."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from numprune_export.data.corpus import Windows
from numprune_export.data.labelled.encoded import UNSCORED

LOGITS_AT_ONCE = 1 << 24
"""Logits that are alive at once: 64 MiB in fp32, and up to four times that while their gradient is
taken."""


def next_tokens(windows: Windows) -> Int[Tensor, "sequences length"]:
    """The token after each one; UNSCORED after a window's last one and where it is padded."""
    following = torch.full(windows.tokens.shape, UNSCORED)
    following[:, :-1] = torch.from_numpy(windows.tokens[:, 1:])
    last = torch.from_numpy(windows.lengths)[:, None] - 1
    return following.masked_fill(torch.arange(following.shape[1]) >= last, UNSCORED)


def next_token_loss(
    outputs: Any, following: Int[Tensor, "batch length"]
) -> Float[Tensor, " batch"]:
    """Nats of a window, summed over its predicted tokens, fp32; a `Loss` over `next_tokens`.

    It adds up over positions, so a part of the positions gives a part of it.
    """
    following = following[:, : outputs.logits.shape[1]].to(outputs.logits.device)
    each = functional.cross_entropy(
        outputs.logits.flatten(0, 1).float(),
        following.flatten(),
        ignore_index=UNSCORED,
        reduction="none",
    )
    return each.view(following.shape).sum(1)


def positions_at_once(model: nn.Module, batch: int) -> int:
    """How many positions of each of `batch` windows give LOGITS_AT_ONCE logits, at least 1."""
    config: Any = model.config
    return max(1, LOGITS_AT_ONCE // (batch * int(config.vocab_size)))
