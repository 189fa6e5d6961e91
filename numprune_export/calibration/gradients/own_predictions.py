"""A loss that needs no labels: the model's own predictions are the labels.

K-prune (Park et al. 2024, arXiv:2308.03449, Eq. 4) takes T²·KL(dense ‖ pruned) of predictions
softened by a temperature T. At m = 1 the two agree: KL and its gradient are zero there, and squared
gradients say nothing. Its curvature is not zero: it is the Fisher information

    Jᵀ(diag(p) − ppᵀ)J = E over y ~ p of g_y·g_yᵀ,   p = softmax(z/T),  J = ∂z/∂m,
                                                      g_y = ∂(T · −log p_y)/∂m

so labels are drawn from p and T times their cross-entropy is the loss: its squared gradients are an
unbiased estimate of that curvature, example by example, and batch means of them up to the batch
size, because draws for different examples are independent and each has a mean gradient of zero.
Gold labels give the published, empirical Fisher instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.nn import functional

from numprune_export.export.encoder import Task


@dataclass(frozen=True)
class OwnPredictions:
    """A `Loss` whose labels are the mask of real tokens, (batch, length or more) bool.

    A model with one output is a regression: its noise is ±1 around its own answer, of unit variance,
    so that an example's squared gradient is exactly that of ½(z − z₀)².
    """

    task: Task
    generator: Generator
    """Draws the labels; the same seed gives the same gradients."""
    temperature: float = 2.0

    def __call__(self, outputs: Any, real: Bool[Tensor, "batch length"]) -> Float[Tensor, " batch"]:
        """One loss per example; of tokens, the mean over the real ones; of a span, over its two ends."""
        match self.task:
            case "sequence":
                return self._drawn(outputs.logits)
            case "token":
                real = real[:, : outputs.logits.shape[1]]
                none = torch.zeros(real.shape, device=real.device)
                losses = none.masked_scatter(real, self._drawn(outputs.logits[real]))
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
            return 0.5 * (logits[:, 0] - logits[:, 0].detach() + signs).square()
        softened = logits / self.temperature
        # The KL divergence is scaled by T², the cross-entropy of one label by T: see above.
        labels = softened.detach().softmax(1).multinomial(1, generator=self.generator)[:, 0]
        return self.temperature * functional.cross_entropy(softened, labels, reduction="none")
