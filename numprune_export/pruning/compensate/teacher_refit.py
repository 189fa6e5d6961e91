"""Refit of all kept columns of a consumer to a teacher's output.

The least squares contain mask tuning, which scales whole units: on the same sums the refit is never
further from the target, its ridge aside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat

from numprune_export.core.settings import Strict
from numprune_export.pruning.compensate.teacher import Teacher

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from numprune_export.models.site import Kind
    from numprune_export.numerics.regression import Moments
    from numprune_export.pruning.compensate.teacher import Change


class Refit(Strict):
    """Full least squares over the kept columns, with a ridge on their change."""

    method: Literal["refit"] = "refit"
    teacher: Teacher = "dense"
    """The model whose outputs are the target."""
    damping: PositiveFloat = 0.01
    """Ridge, relative to the mean of the Gram diagonal, as in `closed_form`."""
    bias: bool = True
    """Refit an existing bias as well; a layer without a bias gets none."""

    def solve(
        self,
        weight: Float[Tensor, "out n"],
        moments: Moments,
        width: int,
        kind: Kind,
        *,
        has_bias: bool,
    ) -> Change:
        """argmin over V (and c) of Σ ‖V·h + c − b‖² + ridge·‖V − W‖²."""
        import torch

        from numprune_export.numerics.gram import rounding
        from numprune_export.numerics.least_squares import mean_ridge, ridge

        wide, gram, cross = weight.double(), moments.gram, moments.cross
        affine = self.bias and has_bias
        if affine:
            gram = gram - torch.outer(moments.inputs, moments.inputs) / moments.tokens
            cross = cross - torch.outer(moments.targets, moments.inputs) / moments.tokens
        damping = mean_ridge(moments.gram, self.damping)
        fitted = ridge(gram, cross, wide, damping, rounding=rounding(moments.tokens))
        mean = (moments.targets - fitted @ moments.inputs) / moments.tokens
        return fitted, mean if affine else 0.0
