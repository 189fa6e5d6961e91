"""Fisher OBS: nested removal orders whose cost is a change of the loss, in nats per token.

A consumer with weight W has inputs x with covariance C; g is the gradient of the loss with respect
to its output. To second order, and with g independent of x, a weight change Δ raises the loss of a
token by ½·E(gᵀ·Δ·x)² = ½·tr(Δᵀ·F·Δ·C), with the empirical Fisher matrix F = E ggᵀ of the output.
Structured optimal brain surgeon (`numerics.obs`) computes the order and the cost; after each
removal the remaining weights are refitted, as `compensate` refits them.

Costs of all sites have the same unit, so `allocate: curves` can compare them. Sources: Hassibi &
Stork 1993 (OBS); Frantar & Alistarh 2022, arXiv:2208.11580 (one site at a time); Martens & Grosse
2015, arXiv:1503.05671 (input covariance ⊗ output Fisher).
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
"""Default number of plain-text windows for gradients; with 512 tokens per window, more gave no
improvement."""


class FisherObs(Strict):
    """Structured optimal brain surgeon in the Fisher metric of a sublayer's output."""

    method: Literal["fisher_obs"] = "fisher_obs"
    estimates_loss: ClassVar[bool] = True
    metric: Literal["fisher", "identity"] = "fisher"
    """Weight of an output error. `fisher`: the curvature of the loss. `identity`: the squared
    error, which is plain OBS and needs no gradients; sites are then hardly comparable."""
    damping: PositiveFloat = 0.003
    """Added to the diagonal of the inputs' moments, relative to the median of its nonzero entries:
    a few inputs of one token can dominate the mean (massive activations: Sun et al. 2024,
    arXiv:2402.17762)."""
    centred: bool = True
    """True: covariance of the inputs, for a refit with a bias. False: raw second moments, for a
    refit without a bias."""
    step: PositiveInt = 32
    """MLP channels removed at once, at their exact joint cost; query heads are removed one by
    one."""
    token_stride: PositiveInt = 1
    """Moments are accumulated over every n-th calibration token; n is lowered where fewer than ten
    tokens per input of the widest layer would be left. Neighbouring tokens are correlated."""
    sequences: PositiveInt | None = None
    """Number of first calibration sequences that gradients are taken on. Null: 12 windows of plain
    text, or every labelled example."""

    def removal(
        self, weight: Float[Tensor, "out n"], statistics: Statistics, site: Site
    ) -> RemovalOrder:
        """The removal order of the site's units, on the weight's device.

        Args:
            weight: The consumer's weight.
            statistics: Statistics of its input; with `metric: fisher` also the Fisher matrix of its
                output.
            site: The site.

        Returns:
            error[k] is ½·tr(Δᵀ·F·Δ·A) with k units removed and the others refitted, A the damped
            covariance; nats per token with `metric: fisher`. It is linear within a step.

        Raises:
            NumericalError: the moments or F are not finite.
        """
        from numprune_export.numerics import obs
        from numprune_export.numerics.least_squares import damp
        from numprune_export.numerics.removal_order import RemovalOrder

        moments = statistics.covariance if self.centred else statistics.gram.div_(statistics.tokens)
        diagonal = moments.diagonal()
        # Constant inputs cost nothing; without this, the damping would count their weight.
        weight = weight.double() * (diagonal > 0)
        damp(moments, self.damping * _typical(diagonal), statistics.rounding)
        try:
            removal = obs.prune_order(
                weight,
                moments,
                self._metric(statistics, weight),
                width=site.consumer_width,
                step=self.step if site.kind == "mlp" else 1,
            )
        except NumericalError as error:
            raise NumericalError(f"`{site.name}`: {error}", hint=error.hint) from error
        return RemovalOrder(removal.order, removal.error / 2)

    def _metric(
        self, statistics: Statistics, weight: Float[Tensor, "out n"]
    ) -> Float[Tensor, "out out"] | None:
        if self.metric == "identity":
            return None
        assert statistics.output_fisher is not None, "calibration collected no gradients"
        return statistics.output_fisher.to(weight)


def reads_output_fisher(score: object) -> TypeGuard[FisherObs]:
    """Whether a recipe's score needs the Fisher information of outputs."""
    return isinstance(score, FisherObs) and score.metric == "fisher"


def _typical(diagonal: Float[Tensor, " n"]) -> float:
    """The median of the positive entries; 1 if there are none."""
    positive = diagonal[diagonal > 0]
    return float(positive.median()) if len(positive) else 1.0
