"""Diagonal empirical Fisher of unit masks (Kwon et al. 2022, arXiv:2204.09656, §4.1).

A unit's score is Σ g² over mini-batches (as published) or examples, with g the gradient of the loss
with respect to the unit's mask. The gradients need a backward pass
(`calibration.gradients.mask_gradients`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveFloat

from numprune_export.core.settings import Strict

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Generator, Tensor

    from numprune_export.calibration.statistics import Statistics


class Fisher(Strict):
    """Squared mask gradients of arXiv:2204.09656."""

    method: Literal["fisher"] = "fisher"
    estimates_loss: ClassVar[bool] = True
    per: Literal["batch", "example"] = "batch"
    """One gradient per mini-batch's mean loss, as published (the batch size is then part of the
    method: 32 there), or one per example."""
    labels: Literal["gold", "own"] = "gold"
    """`gold`: the data's labels. `own`: labels drawn from the model's softened predictions, which
    needs no labelled data."""
    temperature: PositiveFloat = 2.0
    """Softmax temperature of the model's predictions for `labels: own`, as in K-prune
    (arXiv:2308.03449)."""

    def __call__(
        self,
        weight: Float[Tensor, "out n"],
        statistics: Statistics,
        *,
        keep: float,
        generator: Generator,
    ) -> Float[Tensor, " n"]:
        """Σ over rows of squared `statistics.unit_gradients`, equal for all columns of a unit,
        fp64; the other arguments are not used."""
        assert statistics.unit_gradients is not None, "calibration collected no gradients"
        units = statistics.unit_gradients.double().square().sum(0)
        return units.repeat_interleave(statistics.unit_width)
