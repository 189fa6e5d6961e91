"""Weight magnitude: ‖W_:,j‖ of the consumer's column; a baseline that uses no data."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from numprune_export.core.settings import Strict

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Generator, Tensor

    from numprune_export.calibration.statistics import Statistics


class Magnitude(Strict):
    """Column norms of the consumer's weight."""

    method: Literal["magnitude"] = "magnitude"
    estimates_loss: ClassVar[bool] = False

    def __call__(
        self,
        weight: Float[Tensor, "out n"],
        statistics: Statistics,
        *,
        keep: float,
        generator: Generator,
    ) -> Float[Tensor, " n"]:
        """‖W_:,j‖₂, fp64; the other arguments are not used."""
        return weight.double().square().sum(0).sqrt()
