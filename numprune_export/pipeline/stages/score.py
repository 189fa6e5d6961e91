"""The score stage: statistics to unit scores and removal orders, on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from numprune_export.calibration.statistics import Statistics
from numprune_export.core.stage import Stage, Together
from numprune_export.models.residency import weight_of
from numprune_export.models.site import Site
from numprune_export.numerics.ranks import dealt, gathered
from numprune_export.numerics.removal_order import RemovalOrder
from numprune_export.pipeline.stages.calibrate import Calibrated
from numprune_export.pipeline.stages.round_context import RoundContext
from numprune_export.pruning.linear_work import work_of
from numprune_export.pruning.score.numerical import Numerical
from numprune_export.pruning.score.random import Random
from numprune_export.pruning.score_sites import SiteScore, score_sites

SCORES = "scores.safetensors"
REMOVALS = "removals.safetensors"


def score(here: RoundContext, calibrated: Calibrated) -> Stage:
    """Write `scores.safetensors`, per consumer input, and `removals.safetensors`, per site."""
    recipe, start = here.context.recipe, here.start
    units = [(site.name, site.units) for site in start.sites]
    seed = recipe.seed if isinstance(recipe.score, Random) else None
    inputs: list[Any] = [start.key, calibrated.key, units, recipe.score.model_dump(), seed]
    if isinstance(recipe.score, Numerical):  # the only score that depends on `keep`
        inputs.append(recipe.keep)

    def write(folder: Path) -> None:
        _write(here, calibrated, folder)

    return here.learned("score", "scores", inputs, Together(write))


def _write(here: RoundContext, calibrated: Calibrated, folder: Path) -> None:
    recipe, start, observer = here.context.recipe, here.start, here.context.observer
    own = [start.sites[index] for index in dealt([work_of(site) for site in start.sites])]
    observer.expect(sum(map(work_of, own)))

    def with_weights() -> Iterator[tuple[Site, Tensor, Statistics]]:
        for site, statistics in calibrated.in_turn(own):
            weight = weight_of(start.model, start.family, site.block, site.consumer)
            yield site, weight, statistics.to(weight.device)

    scores: dict[str, Tensor] = {}
    removals: dict[str, Tensor] = {}
    for scored in score_sites(with_weights(), recipe.score, keep=recipe.keep, seed=recipe.seed):
        name = scored.site.name
        scores[name] = scored.columns.cpu()
        removals[f"{name}.order"] = scored.removal.order.cpu()
        removals[f"{name}.error"] = scored.removal.error.cpu()
        observer.advance(work_of(scored.site))
    for others, their_removals in gathered((scores, removals)):
        scores |= others
        removals |= their_removals
    save_file({name: scores[name] for name in sorted(scores)}, folder / SCORES)
    save_file({name: removals[name] for name in sorted(removals)}, folder / REMOVALS)


def read_scores(stage: Stage) -> dict[str, Tensor]:
    """Scores by site name, one per consumer input, (n,)."""
    return load_file(stage.folder / SCORES)


def read_site_scores(stage: Stage, sites: Sequence[Site]) -> list[SiteScore]:
    """Scores and removal order of every site."""
    columns, removals = load_file(stage.folder / SCORES), load_file(stage.folder / REMOVALS)
    return [
        SiteScore(
            site,
            columns[site.name],
            RemovalOrder(removals[f"{site.name}.order"], removals[f"{site.name}.error"]),
        )
        for site in sites
    ]
