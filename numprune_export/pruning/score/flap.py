"""FLAP's fluctuation score, WIFV (An et al. 2023, arXiv:2312.11983, Eq. 5).

Inputs that hardly vary can be replaced by their mean (a bias), so the score is the variance,
weighted by the column: Var(X_j)·‖W_:,j‖².
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from numprune_export.core.settings import Strict

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Generator, Tensor

    from numprune_export.calibration.statistics import Statistics


class Flap(Strict):
    """Weighted input feature variance. The published compensation is `bias`."""

    method: Literal["flap"] = "flap"
    estimates_loss: ClassVar[bool] = False

    def __call__(
        self,
        weight: Float[Tensor, "out n"],
        statistics: Statistics,
        *,
        keep: float,
        generator: Generator,
    ) -> Float[Tensor, " n"]:
        """Var(X_j)·‖W_:,j‖², fp64; `keep` and `generator` are not used."""
        return statistics.variance * weight.double().square().sum(0)
