"""Losses without gold labels: next tokens, or labels drawn from the model's predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional

from numprune_export.data.corpus import Windows
from numprune_export.data.labelled.encoded import UNSCORED
from numprune_export.export.encoder import Task

LOGITS_AT_ONCE = 1 << 24
"""Logits in memory at once: 64 MiB in fp32, and up to four times as much while their gradient is
computed."""


def next_tokens(windows: Windows) -> Int[Tensor, "sequences length"]:
    """The next token at each position; UNSCORED at a window's last token and at padding."""
    following = torch.full(windows.tokens.shape, UNSCORED)
    following[:, :-1] = torch.from_numpy(windows.tokens[:, 1:])
    last = torch.from_numpy(windows.lengths)[:, None] - 1
    return following.masked_fill(torch.arange(following.shape[1]) >= last, UNSCORED)


def next_token_loss(
    outputs: Any, following: Int[Tensor, "batch length"]
) -> Float[Tensor, " batch"]:
    """Nats per window, summed over its predicted tokens, fp32; a `Loss` whose labels are
    `next_tokens`.

    The loss is a sum over positions, so it can be computed part by part.
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
    """Positions per window at which `batch` windows have LOGITS_AT_ONCE logits, at least 1."""
    config: Any = model.config
    return max(1, LOGITS_AT_ONCE // (batch * int(config.vocab_size)))


@dataclass(frozen=True)
class OwnPredictions:
    """A `Loss` on labels drawn from the model's own predictions; its labels argument is the mask of
    real tokens, (batch, length or more) bool.

    A model with one output is a regression: its label is its own output ± 1, noise of unit
    variance, so an example's squared gradient is exactly that of ½(z − z₀)².
    """

    task: Task
    generator: Generator
    """Draws the labels; equal seeds give equal gradients."""
    temperature: float = 2.0

    def __call__(self, outputs: Any, real: Bool[Tensor, "batch length"]) -> Float[Tensor, " batch"]:
        """One loss per example: for tokens, the mean over real tokens; for a span, over start and
        end."""
        match self.task:
            case "sequence":
                return self._drawn(outputs.logits)
            case "token":
                real = real[:, : outputs.logits.shape[1]]
                zeros = torch.zeros(real.shape, device=real.device)
                losses = zeros.masked_scatter(real, self._drawn(outputs.logits[real]))
                return losses.sum(1) / real.sum(1)
            case "span":
                real = real[:, : outputs.start_logits.shape[1]]
                start, end = (
                    self._drawn(ends.masked_fill(~real, -torch.inf))
                    for ends in (outputs.start_logits, outputs.end_logits)
                )
                return (start + end) / 2

    def _drawn(self, logits: Float[Tensor, "rows classes"]) -> Float[Tensor, " rows"]:
        logits = logits.float()
        if logits.shape[1] == 1:
            signs = torch.randint(0, 2, (len(logits),), generator=self.generator) * 2 - 1
            noise = signs.to(logits.device)
            return 0.5 * (logits[:, 0] - logits[:, 0].detach() + noise).square()
        softened = logits / self.temperature
        # The KL divergence is scaled by T², the cross-entropy of a sampled label by T.
        chances = softened.detach().softmax(1).cpu()  # the generator's device
        labels = chances.multinomial(1, generator=self.generator)[:, 0].to(logits.device)
        return self.temperature * functional.cross_entropy(softened, labels, reduction="none")
