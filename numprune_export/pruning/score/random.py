"""Random scores: the baseline of every method."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from numprune_export.core.settings import Strict

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Generator, Tensor

    from numprune_export.calibration.statistics import Statistics


class Random(Strict):
    """Uniform noise from the caller's generator (the recipe's `seed`)."""

    method: Literal["random"] = "random"
    estimates_loss: ClassVar[bool] = False

    def __call__(
        self,
        weight: Float[Tensor, "out n"],
        statistics: Statistics,
        *,
        keep: float,
        generator: Generator,
    ) -> Float[Tensor, " n"]:
        """Uniform in [0, 1), fp64."""
        import torch

        return torch.rand(weight.shape[1], generator=generator, dtype=torch.float64)
