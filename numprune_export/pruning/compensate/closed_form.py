"""Least-squares compensation in closed form (Shen et al. 2024, arXiv:2412.12441, Thm 3, Eq. 11).

Eq. 11 inverts the whole Gram matrix and constrains the removed rows to zero. Eliminating the
constraint gives the same minimiser from one solve over the kept inputs K (P: the removed ones):

    V = W_K + W_P · G_PK · (G_KK + ½γI)⁻¹

with γ of Remark 5 acting as a ridge on the change, not on the weight. With a bias to fit as well, G is
the covariance and the bias takes up what is left of the mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from numprune_export.calibration.token_stride import bounded_stride
from numprune_export.core.settings import Strict

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor

    from numprune_export.calibration.statistics import Statistics
    from numprune_export.models.site import Kind


class ProducerRefit(Strict):
    """How the layers before the activation are refitted."""

    iterations: PositiveInt = 2
    """Of conjugate gradients."""
    token_stride: PositiveInt = 6
    """They are fitted to one token of the calibration texts in so many."""
    damping: PositiveFloat = 0.01
    """Ridge on the change, relative to what it makes of the output."""
    least: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Where fewer of an MLP's channels go than this fraction, only its consumer is refitted: there is little
    error, and the widest layers."""
    spared_token_stride: PositiveInt = 2
    """Such a consumer is fitted to one token in so many, or in fewer where less than ten for each of its
    inputs would be left."""


class ClosedForm(Strict):
    """argmin over V of ‖X Wᵀ − X_K Vᵀ‖² plus a relative ridge on V − W_K."""

    method: Literal["closed_form"] = "closed_form"
    damping: PositiveFloat = 0.01
    """½γ of Remark 5, relative to the mean of the Gram diagonal (the paper gives no value)."""
    affine: bool = False
    """Fit a bias too. The layer has one afterwards, which some runtimes do not take; there is no place
    to fold it into."""
    order: Literal["one_shot", "sequential"] = "sequential"
    """`one_shot`: X from the dense model. `sequential`: X from the already pruned prefix, block by
    block; Eq. 9 allows both."""
    token_stride: PositiveInt = 1
    """Fitted to one calibration token in so many, `sequential` only: neighbours tell much the same, and
    sums over tokens are most of the work."""
    producers: ProducerRefit | None = None
    """Refit what comes before an MLP's activation as well, `sequential` only; not in the paper. None: the
    consumer alone."""

    @model_validator(mode="after")
    def _behind_the_prefix(self) -> ClosedForm:
        if self.order == "sequential":
            return self
        if self.producers is not None:
            raise ValueError(
                "`producers` need `order: sequential`, or `producers: null`: they are refitted to"
                " activations"
            )
        if self.token_stride > 1:
            raise ValueError(
                f"`token_stride: {self.token_stride}` needs `order: sequential`, or leave it out: one-shot sums"
                " are those that the score reads"
            )
        return self

    @model_validator(mode="after")
    def _among_the_fitted(self) -> ClosedForm:
        if self.producers is not None and self.producers.token_stride % self.token_stride:
            raise ValueError(
                f"`producers.token_stride: {self.producers.token_stride}` must be a multiple of"
                f" `token_stride: {self.token_stride}`: the outputs that producers are fitted to are among the"
                " consumer's"
            )
        return self

    def stride_alone(self, kind: Kind, inputs: int, tokens: int) -> int:
        """One in so many of `tokens` that a consumer of `inputs` is fitted to, where nothing else is."""
        if kind != "mlp" or self.producers is None:
            return self.token_stride
        return max(
            self.token_stride, bounded_stride(self.producers.spared_token_stride, tokens, inputs)
        )

    def __call__(
        self,
        weight: Float[Tensor, "out n"],
        bias: Float[Tensor, " out"] | None,
        statistics: Statistics,
        kept: Int64[Tensor, " k"],
    ) -> tuple[Float[Tensor, "out k"], Float[Tensor, " out"] | None]:
        """The refitted kept columns, solved in fp64, in the weight's dtype; the bias unchanged unless
        `affine`.

        Args:
            weight: The consumer's weight, PyTorch layout.
            bias: Its bias, or None.
            statistics: Its input.
            kept: Indices of the inputs that stay, in the order of the result's columns.
        """
        from numprune_export.numerics.indexing import complement
        from numprune_export.numerics.least_squares import mean_ridge, ridge_solve

        wide = weight.double()
        gram = statistics.covariance if self.affine else statistics.gram
        gone = complement(weight.shape[1], kept)
        transfer = ridge_solve(
            gram[kept][:, kept],
            gram[kept][:, gone],
            mean_ridge(gram, self.damping),
            rounding=statistics.rounding,
        )  # (k, p)
        refitted = wide[:, kept] + wide[:, gone] @ transfer.T
        if self.affine:
            shift = wide @ statistics.mean - refitted @ statistics.mean[kept]
            bias = (shift if bias is None else shift + bias.double()).to(weight.dtype)
        return refitted.to(weight.dtype), bias
