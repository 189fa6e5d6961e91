"""Wanda, structured: Σ_i |W_ij|·‖X_j‖ per input j (Sun et al. 2023, arXiv:2306.11695, Eq. 1).

The paper ranks single weights; the sum over a column is the structured variant known as Wanda-sp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from numprune_export.core.settings import Strict

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Generator, Tensor

    from numprune_export.calibration.statistics import Statistics


class Wanda(Strict):
    """Weight magnitude times input norm."""

    method: Literal["wanda"] = "wanda"
    estimates_loss: ClassVar[bool] = False

    def __call__(
        self,
        weight: Float[Tensor, "out n"],
        statistics: Statistics,
        *,
        keep: float,
        generator: Generator,
    ) -> Float[Tensor, " n"]:
        """Column sums of |W|·‖X_j‖, fp64; `keep` and `generator` are not used."""
        norms = statistics.squares.sqrt()
        return weight.double().abs().sum(0) * norms
