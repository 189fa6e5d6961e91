"""No compensation: the removed columns are dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from numprune_export.core.settings import Strict

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor

    from numprune_export.calibration.statistics import Statistics


class Nothing(Strict):
    """The baseline: pruning without compensation."""

    method: Literal["none"] = "none"
    order: Literal["one_shot", "sequential"] = "one_shot"
    """Has no effect: nothing is fitted."""

    def __call__(
        self,
        weight: Float[Tensor, "out n"],
        bias: Float[Tensor, " out"] | None,
        statistics: Statistics | None,
        kept: Int64[Tensor, " k"],
    ) -> tuple[Float[Tensor, "out k"], Float[Tensor, " out"] | None]:
        """The kept columns, unchanged."""
        return weight[:, kept], bias
