"""Scores of all sites of a model, by one method; pure: no file, no run folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from numprune_export.calibration.statistics import Statistics
from numprune_export.models.site import Site
from numprune_export.numerics.removal_order import RemovalOrder, additive
from numprune_export.pruning.score import Score
from numprune_export.pruning.score.fisher_obs import FisherObs


@dataclass(frozen=True)
class SiteScore:
    """What a method says of one site."""

    site: Site
    columns: Float[Tensor, " n"]
    """A score per input of the consumer; higher is more worth keeping."""
    removal: RemovalOrder
    """The order in which the site's units go, and what each further one costs."""


def score_sites(
    calibrated: Iterable[tuple[Site, Float[Tensor, "out n"], Statistics]],
    method: Score,
    *,
    keep: float,
    seed: int = 0,
) -> Iterator[SiteScore]:
    """Score every site in turn; only one site's statistics need to be alive at a time.

    Args:
        calibrated: Each site with its consumer's weight, PyTorch layout, and the statistics of its
            consumer's input.
        method: How.
        keep: Fraction of the prunable parameters that will stay; `numerical` alone reads it.
        seed: Of `random`.
    """
    for index, (site, weight, statistics) in enumerate(calibrated):
        if isinstance(method, FisherObs):
            removal = method.removal(weight, statistics, site)
            columns = removal.scores().repeat_interleave(site.consumer_width)
        else:
            generator = torch.Generator().manual_seed(1_000_003 * seed + index)
            columns = method(weight, statistics, keep=keep, generator=generator)
            removal = additive(columns.double().reshape(site.units, -1).mean(1))
        yield SiteScore(site, columns, removal)
