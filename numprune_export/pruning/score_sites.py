"""Score all sites of a model. Pure: no file, no run folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from numprune_export.calibration.statistics import Statistics
from numprune_export.models.full_device import in_block
from numprune_export.models.site import Site
from numprune_export.numerics.removal_order import RemovalOrder, additive
from numprune_export.pruning.score import Score
from numprune_export.pruning.score.fisher_obs import FisherObs


@dataclass(frozen=True)
class SiteScore:
    """The scores of one site."""

    site: Site
    columns: Float[Tensor, " n"]
    """One score per input of the consumer; higher is kept first."""
    removal: RemovalOrder
    """The removal order of the site's units, and its errors."""


def score_sites(
    calibrated: Iterable[tuple[Site, Float[Tensor, "out n"], Statistics]],
    method: Score,
    *,
    keep: float,
    seed: int = 0,
) -> Iterator[SiteScore]:
    """Score site by site; only one site's statistics are in memory at a time.

    Args:
        calibrated: Each site with its consumer's weight, PyTorch layout, and the statistics of its
            consumer's input.
        method: The scoring method.
        keep: Fraction of the prunable parameters that will stay; only `numerical` reads it.
        seed: Seed of `random`.
    """
    for index, (site, weight, statistics) in enumerate(calibrated):
        generator = torch.Generator().manual_seed(1_000_003 * seed + index)
        with in_block(site.block):
            if isinstance(method, FisherObs):
                removal = method.removal(weight, statistics, site)
                columns = removal.scores().repeat_interleave(site.consumer_width)
            else:
                columns = method(weight, statistics, keep=keep, generator=generator)
                removal = additive(columns.double().reshape(site.units, -1).mean(1))
        yield SiteScore(site, columns, removal)
