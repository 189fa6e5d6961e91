"""Two ways to make a pruned sublayer's output its teacher's: one scale per unit, or all weights.

Kwon et al. 2022 (arXiv:2204.09656, §4.3, Eq. 13) solve for a real-valued mask over the kept units by
damped least squares. Scaling a unit is scaling its columns of the consumer, so the full refit of
those columns on the same sums contains it and is never further from the target, its ridge aside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat

from numprune_export.core.settings import Strict

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from numprune_export.models.site import Kind
    from numprune_export.numerics.regression import Moments

    Change = tuple[Float[Tensor, "out n"], Float[Tensor, " out"] | float]
    """A consumer's new weight, fp64, and what is added to its bias."""


Teacher = Literal["assistant", "dense"]
"""`assistant`: a model pruned to the geometric mean of the budget and the whole, not repaired, as in
the published code. `dense`: the model itself."""


class ScalarTuning(Strict):
    """Mask tuning as published, folded into the consumer's columns."""

    method: Literal["scalar"] = "scalar"
    teacher: Teacher = "assistant"
    """Whose outputs are the target."""
    damping: PositiveFloat = 1.0
    """Of LSMR, which is applied to the normal matrix G: it adds damping² to G², far less than a
    ridge on G would."""
    bound: PositiveFloat = 10.0
    """A scale outside [−bound, bound] makes the solution unacceptable."""
    first_attention: bool = False
    """Tune the first block's attention too; the paper's code leaves it alone."""
    stop_at_rejection: bool = True
    """After an unacceptable solution leave all later sublayers alone, as published; false: only this
    one."""

    def solve(
        self,
        weight: Float[Tensor, "out n"],
        moments: Moments,
        width: int,
        kind: Kind,
        *,
        has_bias: bool,
    ) -> Change | None:
        """The columns scaled unit by unit; None if the solver failed or a scale is out of bounds."""
        scales = self.scales(weight, moments, width, kind)
        return None if scales is None else (fold(weight, scales), 0.0)

    def scales(
        self, weight: Float[Tensor, "out n"], moments: Moments, width: int, kind: Kind
    ) -> Float[Tensor, " units"] | None:
        """argmin over x near 1 of Σ ‖Σ_u x_u·W_u·h_u − b‖², fp64; None if it is not acceptable.

        Args:
            weight: The consumer's, PyTorch layout.
            moments: Of its input and target.
            width: Columns of a unit.
            kind: Heads are fitted beside one constant for all outputs, which is then dropped.
        """
        from numprune_export.numerics.lsmr import lsmr

        matrix, right = normal_equations(weight, moments, width, intercept=kind == "attention")
        found = lsmr(matrix, right - matrix.sum(1), self.damping)
        scales = 1 + found.x[: weight.shape[1] // width]
        accepted = found.converged and bool((scales.abs() <= self.bound).all())
        return scales if accepted else None


class Refit(Strict):
    """Full least squares over the kept columns, a ridge on their change."""

    method: Literal["refit"] = "refit"
    teacher: Teacher = "dense"
    """Whose outputs are the target."""
    damping: PositiveFloat = 0.01
    """Relative to the mean of the Gram diagonal, as `closed_form`'s."""
    bias: bool = True
    """Refit a bias that is there as well; a layer without one stays so."""

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


def normal_equations(
    weight: Float[Tensor, "out n"], moments: Moments, width: int, *, intercept: bool
) -> tuple[Float[Tensor, "k k"], Float[Tensor, " k"]]:
    """G·x = r of the least squares over units' contributions W_u·h_u, all tokens and outputs.

    G_uv = Σ over columns i of u and j of v of (WᵀW)_ij·Gram_ij, so contributions are never made.
    With `intercept` the last column is a constant 1 at every token and output.
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
