"""Random scores: the floor under every method."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from numprune_export.calibration.statistics import Statistics
from numprune_export.core.settings import Strict


class Random(Strict):
    """Uniform noise from the caller's generator (the recipe's `seed`)."""

    method: Literal["random"] = "random"

    def __call__(
        self,
        weight: Float[Tensor, "out n"],
        statistics: Statistics,
        *,
        keep: float,
        generator: Generator,
    ) -> Float[Tensor, " n"]:
        """Uniform in [0, 1), fp64."""
        return torch.rand(weight.shape[1], generator=generator, dtype=torch.float64)
