"""Least-squares compensation in closed form (Shen et al. 2024, arXiv:2412.12441, Thm 3, Eq. 11).

Eq. 11 inverts the whole Gram matrix G and constrains the removed rows to zero. Eliminating the
constraint gives the same minimiser from one solve over the kept inputs K (P: the removed inputs):

    V = W_K + W_P · G_PK · (G_KK + ½γI)⁻¹

with γ of Remark 5 acting as a ridge on the change, not on the weight. If a bias is fitted too, G is
the covariance, and the bias corrects the mean.
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
    """Refit of the layers before an MLP's activation."""

    iterations: PositiveInt = 2
    """Iterations of conjugate gradients."""
    token_stride: PositiveInt = 6
    """Producers are fitted to every n-th calibration token."""
    damping: PositiveFloat = 0.01
    """Ridge on the change, relative to its effect on the output."""
    least: Annotated[float, Field(ge=0, le=1)] = 0.2
    """An MLP that loses less than this fraction of its channels has only its consumer refitted: its
    error is small and its layers are the widest."""
    spared_token_stride: PositiveInt = 2
    """Such a consumer is fitted to every n-th token; n is lowered where fewer than ten tokens per
    input would be left."""


class ClosedForm(Strict):
    """argmin over V of ‖X Wᵀ − X_K Vᵀ‖² plus a relative ridge on V − W_K."""

    method: Literal["closed_form"] = "closed_form"
    damping: PositiveFloat = 0.01
    """½γ of Remark 5, relative to the mean of the Gram matrix's diagonal (the paper gives no
    value)."""
    affine: bool = False
    """Fit a bias too. The layer gains a bias, which some runtimes do not support; it cannot be
    folded into another layer."""
    order: Literal["one_shot", "sequential"] = "sequential"
    """`one_shot`: X from the dense model. `sequential`: X from the already pruned prefix, block by
    block; Eq. 9 allows both."""
    token_stride: PositiveInt = 1
    """Fit to every n-th calibration token, `sequential` only. Neighbouring tokens are correlated,
    and accumulating Gram matrices dominates the cost."""
    producers: ProducerRefit | None = None
    """Refit the layers before an MLP's activation as well, `sequential` only; not in the paper.
    None: only the consumer."""

    @model_validator(mode="after")
    def _behind_the_prefix(self) -> ClosedForm:
        if self.order == "sequential":
            return self
        if self.producers is not None:
            raise ValueError(
                "`producers` need `order: sequential`: they are refitted to activations; otherwise"
                " set `producers: null`"
            )
        if self.token_stride > 1:
            raise ValueError(
                f"`token_stride: {self.token_stride}` needs `order: sequential`: one-shot"
                " compensation reads the statistics of the score; otherwise omit it"
            )
        return self

    @model_validator(mode="after")
    def _among_the_fitted(self) -> ClosedForm:
        if self.producers is not None and self.producers.token_stride % self.token_stride:
            raise ValueError(
                f"`producers.token_stride: {self.producers.token_stride}` must be a multiple of"
                f" `token_stride: {self.token_stride}`: producers are fitted to a subset of"
                " the consumer's tokens"
            )
        return self

    def stride_alone(self, kind: Kind, inputs: int, tokens: int) -> int:
        """Token stride of a consumer with `inputs` that is refitted without its producers."""
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
        """Refit the kept columns, solved in fp64.

        Args:
            weight: The consumer's weight, PyTorch layout.
            bias: Its bias, or None.
            statistics: Statistics of its input.
            kept: Indices of the kept inputs, in the order of the result's columns.

        Returns:
            Weight and bias in the weight's dtype; the bias is unchanged unless `affine`.
        """
        from numprune_export.numerics.indexing import complement
        from numprune_export.numerics.least_squares import mean_ridge, ridge_solve

        wide = weight.double()
        gram = statistics.covariance if self.affine else statistics.gram
        removed = complement(weight.shape[1], kept)
        damping = mean_ridge(gram, self.damping)
        system, right = gram[kept[:, None], kept], gram[kept[:, None], removed]
        del gram
        transfer = ridge_solve(system, right, damping, rounding=statistics.rounding)  # (k, p)
        refitted = wide[:, kept] + wide[:, removed] @ transfer.T
        if self.affine:
            shift = wide @ statistics.mean - refitted @ statistics.mean[kept]
            bias = (shift if bias is None else shift + bias.double()).to(weight.dtype)
        return refitted.to(weight.dtype), bias
