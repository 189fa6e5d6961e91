"""Numerical score: the mask computed by Newton's method (Shen et al. 2024, arXiv:2412.12441, §3).

The relaxed mask z minimises ½‖XW − X(z∘W)‖² + ½λ(⟨1,z⟩ − r)²  (Eq. 3). That is a quadratic, so
one Newton step from any start reaches the minimum; with A = (WWᵀ)∘(XᵀX), D inputs and ρ = 1 − r/D

    z = 1 − ρ·φ·D·a / ⟨1,a⟩,   a = A⁻¹1,   φ = λ⟨1,a⟩ / (1 + λ⟨1,a⟩)

The order within a site is that of −a: neither λ nor ρ changes it. They matter only when sites are
compared, through the scalar φ. See docs/methods/numerical.md for points that the paper leaves open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from numprune_export.core.settings import Strict

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Generator, Tensor

    from numprune_export.calibration.statistics import Statistics


class Numerical(Strict):
    """Newton score of arXiv:2412.12441."""

    method: Literal["numerical"] = "numerical"
    estimates_loss: ClassVar[bool] = False
    penalty: PositiveFloat | None = None
    """λ of Eq. 3, with X scaled to spectral norm 1 as in the paper. Null: the hard constraint ⟨1,z⟩
    = r, the limit λ → ∞, which needs no scale."""
    iterations: PositiveInt | None = None
    """T of Algorithm 1 (about 50 in the paper): run the paper's loop instead of the closed form;
    needs `penalty`. The result is the same."""
    damping: NonNegativeFloat = 1.0e-4
    """Added to the diagonal of A, relative to its mean: a dead input makes A singular."""
    clip: bool = False
    """Clip z to [0, 1] before it is averaged over a head. The paper states this constraint but
    never enforces it."""

    @model_validator(mode="after")
    def _loop_needs_penalty(self) -> Numerical:
        if self.iterations is not None and self.penalty is None:
            raise ValueError("`iterations` needs a finite `penalty`")
        return self

    def __call__(
        self,
        weight: Float[Tensor, "out n"],
        statistics: Statistics,
        *,
        keep: float,
        generator: Generator,
    ) -> Float[Tensor, " n"]:
        """z of Eq. 3 for the inputs of one linear layer.

        Args:
            weight: The consumer's weight, PyTorch layout (the paper's W is `weight.T`).
            statistics: Statistics of its input on calibration data.
            keep: r / D, the fraction of inputs that should stay.
            generator: Not used.

        Returns:
            The minimum, fp64; some values lie outside [0, 1] unless `clip`.
        """
        curvature = self._curvature(weight.double(), statistics)
        score = self._newton(curvature, keep) if self.iterations else self._closed(curvature, keep)
        return score.clamp(0, 1) if self.clip else score

    def _curvature(
        self, weight: Float[Tensor, "out n"], statistics: Statistics
    ) -> Float[Tensor, "n n"]:
        """A of Eq. 7, damped; with a `penalty`, X is scaled to spectral norm 1."""
        from numprune_export.numerics.least_squares import (
            damp,
            mean_ridge,
            product,
            spectral_norm,
        )

        gram = statistics.gram
        if self.penalty is not None:
            gram /= max(spectral_norm(gram), 1e-300)
        curvature = gram.mul_(product(weight.T, weight))
        return damp(curvature, mean_ridge(curvature, self.damping))

    def _closed(self, curvature: Float[Tensor, "n n"], keep: float) -> Float[Tensor, " n"]:
        from numprune_export.numerics.least_squares import solver

        size = curvature.shape[0]
        a = solver(curvature)(curvature.new_ones(size, 1))[:, 0]
        total = a.sum()
        softness = (
            1.0 if self.penalty is None else self.penalty * total / (1 + self.penalty * total)
        )
        return 1 - (1 - keep) * softness * size * a / total

    def _newton(self, curvature: Float[Tensor, "n n"], keep: float) -> Float[Tensor, " n"]:
        """Algorithm 1 as printed, from z = 0."""
        assert self.penalty is not None
        assert self.iterations is not None

        from numprune_export.numerics.least_squares import solver

        size = curvature.shape[0]
        solve = solver(curvature + self.penalty)
        z = curvature.new_zeros(size)
        for _ in range(self.iterations):
            gradient = curvature @ (z - 1) + self.penalty * (z.sum() - keep * size)
            z = z - solve(gradient[:, None])[:, 0]
        return z
