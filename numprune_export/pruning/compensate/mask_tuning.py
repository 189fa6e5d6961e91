"""Mask tuning: one scale per kept unit, fitted to a teacher's output.

Kwon et al. 2022 (arXiv:2204.09656, §4.3, Eq. 13) solve for a real-valued mask over the kept units
by damped least squares. Scaling a unit scales its columns of the consumer, so the mask is folded
into the weight.
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


class ScalarTuning(Strict):
    """Mask tuning as published, folded into the consumer's columns."""

    method: Literal["scalar"] = "scalar"
    teacher: Teacher = "assistant"
    """The model whose outputs are the target."""
    damping: PositiveFloat = 1.0
    """Damping of LSMR, which is applied to the normal matrix G: it adds damping² to G², far less
    than a ridge on G would."""
    bound: PositiveFloat = 10.0
    """A solution with a scale outside [−bound, bound] is rejected."""
    first_attention: bool = False
    """Tune the first block's attention too; the paper's code skips it."""
    stop_at_rejection: bool = True
    """After a rejected solution skip all later sublayers, as published; false: only the rejected
    sublayer."""

    def solve(
        self,
        weight: Float[Tensor, "out n"],
        moments: Moments,
        width: int,
        kind: Kind,
        *,
        has_bias: bool,
    ) -> Change | None:
        """The columns scaled unit by unit; None if the solver failed or a scale is out of
        bounds."""
        scales = self.scales(weight, moments, width, kind)
        return None if scales is None else (fold(weight, scales), 0.0)

    def scales(
        self, weight: Float[Tensor, "out n"], moments: Moments, width: int, kind: Kind
    ) -> Float[Tensor, " units"] | None:
        """argmin over x near 1 of Σ ‖Σ_u x_u·W_u·h_u − b‖², fp64; None if it is rejected.

        Args:
            weight: The consumer's weight, PyTorch layout.
            moments: Moments of its input and its target.
            width: Columns per unit.
            kind: For attention one constant for all outputs is fitted as well, then dropped.
        """
        from numprune_export.numerics.lsmr import lsmr

        matrix, right = normal_equations(weight, moments, width, intercept=kind == "attention")
        solution = lsmr(matrix, right - matrix.sum(1), self.damping)
        scales = 1 + solution.x[: weight.shape[1] // width]
        accepted = solution.converged and bool((scales.abs() <= self.bound).all())
        return scales if accepted else None


def normal_equations(
    weight: Float[Tensor, "out n"], moments: Moments, width: int, *, intercept: bool
) -> tuple[Float[Tensor, "k k"], Float[Tensor, " k"]]:
    """G·x = r of the least squares over units' contributions W_u·h_u, all tokens and outputs.

    G_uv = Σ over columns i of u and j of v of (WᵀW)_ij·Gram_ij, so contributions are never
    computed. With `intercept` the last column is a constant 1 at every token and output.
    """
    import torch

    wide, units = weight.double(), weight.shape[1] // width
    products = (wide.T @ wide) * moments.gram
    matrix = products.view(units, width, units, width).sum((1, 3))
    right = (wide * moments.cross).sum(0).view(units, width).sum(1)
    if not intercept:
        return matrix, right
    border = (wide.sum(0) * moments.inputs).view(units, width).sum(1)
    corner = matrix.new_tensor([moments.tokens * len(wide)])
    matrix = torch.cat([matrix, border[:, None]], 1)
    matrix = torch.cat([matrix, torch.cat([border, corner])[None]], 0)
    return matrix, torch.cat([right, moments.targets.sum()[None]])


def fold(weight: Float[Tensor, "out n"], scales: Float[Tensor, " units"]) -> Float[Tensor, "out n"]:
    """The weight with every unit's columns times its scale, fp64: the same network as the mask."""
    return weight.double() * scales.repeat_interleave(weight.shape[1] // len(scales))
