"""Divergence of a model's next-token distributions from the dense model's, with its gradient.

KL(p ‖ q) = Σ p·(log p − log q), p of the dense model and q of the trained one: the forward divergence
of Hinton et al. 2015 (arXiv:1503.02531) at temperature 1. Its minimum over q is p. With respect to q's
logits its gradient is q − p, so value and gradient are computed together, a part of the tokens at a time,
and no logits are kept.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from numprune_export.data.corpus import Windows
from numprune_export.models import block_runner
from numprune_export.models.family import Family

LOGITS_AT_ONCE = 2**25
"""Logits of each of the two models that are in memory at once."""


def divergence(
    student: Any, teacher: Any, family: Family, windows: Windows
) -> tuple[Float[Tensor, ""], int]:
    """Sum of the divergence over all real tokens of some windows, in nats, and their number.

    Args:
        student: The trained model; gradients reach its weights, but not a bias of its head.
        teacher: The dense model.
        family: Declaration of both.
        windows: A batch of windows.
    """
    inputs, real = block_runner.model_inputs(teacher, family, windows)
    with torch.no_grad():
        wanted = _rows(_hidden(teacher, family, inputs), real)
    rows = _rows(_hidden(student, family, inputs), real)
    head = student.get_output_embeddings()
    summed: Any = _Summed
    total: Tensor = summed.apply(
        rows, head.weight, head.bias, wanted, teacher.get_output_embeddings()
    )
    return total, len(rows)


def _hidden(model: nn.Module, family: Family, inputs: dict[str, Any]) -> Tensor:
    output: Any = model.get_submodule(family.trunk)(**inputs)
    hidden: Tensor = output[0]
    return hidden


def _rows(hidden: Float[Tensor, "batch length n"], real: Tensor) -> Float[Tensor, "tokens n"]:
    return hidden[real.to(hidden.device)]


class _Summed(torch.autograd.Function):
    """The sum over tokens, from the inputs of both heads."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Float[Tensor, "tokens n"],
        weight: Float[Tensor, "vocabulary n"],
        bias: Float[Tensor, " vocabulary"] | None,
        wanted: Float[Tensor, "tokens m"],
        teacher: nn.Module,
    ) -> Float[Tensor, ""]:
        to_rows, to_weight = ctx.needs_input_grad[:2]
        step = max(1, LOGITS_AT_ONCE // len(weight))
        total, slopes = rows.new_zeros((), dtype=torch.float32), torch.empty_like(rows)
        of_weight = torch.zeros_like(weight) if to_weight else None
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            target = teacher(wanted[part]).float().log_softmax(-1)
            own = functional.linear(rows[part], weight, bias).float().log_softmax(-1)
            total += functional.kl_div(own, target, reduction="sum", log_target=True)
            if to_rows:
                change = own.exp_().sub_(target.exp_()).to(weight.dtype)
                slopes[part] = change @ weight
                if of_weight is not None:
                    of_weight.addmm_(change.T, rows[part])
        ctx.slopes, ctx.of_weight = slopes, of_weight
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_weight = None if ctx.of_weight is None else gradients[0] * ctx.of_weight
        return gradients[0] * ctx.slopes, of_weight, None, None, None
