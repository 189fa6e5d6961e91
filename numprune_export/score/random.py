"""Random scores: the floor under every method."""

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor

from numprune_export.calibrate import Statistics
from numprune_export.strict import Strict


class Random(Strict):
    """Uniform noise from the caller's generator."""

    method: Literal["random"] = "random"
    seed: Annotated[int, Field(ge=0)] = 0

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
