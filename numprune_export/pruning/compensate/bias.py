"""Compensation by a bias: the mean of the removed inputs (FLAP, arXiv:2312.11983, Eq. 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from numprune_export.core.settings import Strict

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor

    from numprune_export.calibration.statistics import Statistics


class Bias(Strict):
    """bias += W_P · mean(X_P). The layer gains a bias, which some runtimes do not support."""

    method: Literal["bias"] = "bias"
    order: Literal["one_shot", "sequential"] = "one_shot"
    """`one_shot`: means in the dense model. `sequential`: means behind the already pruned
    prefix."""

    def __call__(
        self,
        weight: Float[Tensor, "out n"],
        bias: Float[Tensor, " out"] | None,
        statistics: Statistics,
        kept: Int64[Tensor, " k"],
    ) -> tuple[Float[Tensor, "out k"], Float[Tensor, " out"]]:
        """The kept columns, (out, k), and the new bias, (out,), in the weight's dtype."""
        from numprune_export.numerics.indexing import complement

        removed = complement(weight.shape[1], kept)
        shift = weight[:, removed].double() @ statistics.mean[removed]
        if bias is not None:
            shift = shift + bias.double()
        return weight[:, kept], shift.to(weight.dtype)
