"""Fisher OBS: nested removal orders whose cost is a change of the loss, in nats per token.

A consumer with weight W has inputs x of covariance C and an output of which g is the gradient of
the loss. To second order, and with g independent of x, weights changed by Δ raise the loss of a
token by ½·E(gᵀ·Δ·x)² = ½·tr(Δᵀ·F·Δ·C) with the empirical Fisher F = E ggᵀ of the output. Structured
optimal brain surgeon (see `brain_surgeon`) finds the order and the cost, the weights that stay being
refitted to all that went, as `compensate` will refit them.

Costs of different sites are in one unit, so `allocate: curves` can compare them. Papers whose parts
these are: Hassibi & Stork 1993 (OBS); Frantar & Alistarh 2022, arXiv:2208.11580 (one site at a time);
Martens & Grosse 2015, arXiv:1503.05671 (input covariance ⊗ output Fisher).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, TypeGuard

from pydantic import PositiveFloat, PositiveInt

from numprune_export.core.errors import NumericalError
from numprune_export.core.settings import Strict

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from numprune_export.calibration.statistics import Statistics
    from numprune_export.models.site import Site
    from numprune_export.numerics.removal_order import RemovalOrder

WINDOWS = 12
"""Windows of plain text that gradients are taken on, where a recipe does not say: of 512 tokens, more
brought nothing."""


class FisherObs(Strict):
    """Structured optimal brain surgeon in the Fisher metric of a sublayer's output."""

    method: Literal["fisher_obs"] = "fisher_obs"
    estimates_loss: ClassVar[bool] = True
    metric: Literal["fisher", "identity"] = "fisher"
    """What an error of the output counts: by the loss's curvature, or `identity`: its square, which
    is plain OBS and needs no gradients; sites are then hardly comparable."""
    damping: PositiveFloat = 0.003
    """Added to the diagonal of the inputs' moments, relative to the median of what is not zero there: a
    few inputs of one token can be all of the mean (massive activations: Sun et al. 2024,
    arXiv:2402.17762)."""
    centred: bool = True
    """Covariance of the inputs, for a refit with a bias; false: raw second moments, for one
    without."""
    step: PositiveInt = 32
    """MLP channels removed at once, at their exact joint cost; query heads go one by one."""
    token_stride: PositiveInt = 1
    """Moments are those of one calibration token in so many, or in fewer where less than ten for each input of
    the widest layer would be left: neighbours tell much the same."""
    sequences: PositiveInt | None = None
    """Calibration sequences that gradients are taken on, the first ones. Null: 12 windows of plain
    text, or every labelled example."""

    def removal(
        self, weight: Float[Tensor, "out n"], statistics: Statistics, site: Site
    ) -> RemovalOrder:
        """The order in which the site's units go, on the weight's device.

        Args:
            weight: The consumer's weight.
            statistics: Its input, and with `metric: fisher` its output's Fisher.
            site: Whose consumer it is.

        Returns:
            error[k] is ½·tr(Δᵀ·F·Δ·A) with k units gone and the others refitted, A the damped
            covariance: with `metric: fisher` nats per token. Between steps it is a straight line.

        Raises:
            NumericalError: the moments or F are not finite.
        """
        from numprune_export.numerics import obs
        from numprune_export.numerics.least_squares import damped
        from numprune_export.numerics.removal_order import RemovalOrder

        moments = statistics.covariance if self.centred else statistics.gram / statistics.tokens
        inputs = moments.to(weight.device)
        diagonal = inputs.diagonal()
        # What does not move costs nothing, whatever the damping says of its weight.
        weight = weight.double() * (diagonal > 0)
        inputs = damped(inputs, self.damping * _typical(diagonal), statistics.rounding)
        try:
            found = obs.prune_order(
                weight,
                inputs,
                self._metric(statistics, weight),
                width=site.consumer_width,
                step=self.step if site.kind == "mlp" else 1,
            )
        except NumericalError as error:
            raise NumericalError(f"`{site.name}`: {error}", hint=error.hint) from error
        return RemovalOrder(found.order, found.error / 2)

    def _metric(
        self, statistics: Statistics, weight: Float[Tensor, "out n"]
    ) -> Float[Tensor, "out out"] | None:
        if self.metric == "identity":
            return None
        assert statistics.output_fisher is not None, "calibration gathered no gradients"
        return statistics.output_fisher.to(weight)


def reads_output_fisher(score: object) -> TypeGuard[FisherObs]:
    """Whether a recipe's score weighs errors of the output by the loss's curvature."""
    return isinstance(score, FisherObs) and score.metric == "fisher"


def _typical(diagonal: Float[Tensor, " n"]) -> float:
    """The median of those that are not zero; 1 if all are."""
    found = diagonal[diagonal > 0]
    return float(found.median()) if len(found) else 1.0
