"""Types that the methods of fitting a sublayer to a teacher share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    Change = tuple[Float[Tensor, "out n"], Float[Tensor, " out"] | float]
    """A consumer's new weight, fp64, and the value added to its bias."""


Teacher = Literal["assistant", "dense"]
"""`assistant`: a model pruned to the geometric mean of the budget and the dense model's cost, not
compensated, as in the published code. `dense`: the dense model."""
