"""The score stage: statistics to unit scores and removal orders, on disk.

Statistics are read from the calibrate stage. Where nothing else reads them, they are not stored: each
block is scored as soon as its statistics are whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from numprune_export.calibration.statistics import Statistics
from numprune_export.calibration.store import save_whole
from numprune_export.core.stage import InParts, Stage, Together
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
COLUMNS = ".columns"
"""Suffix of the names of scores beside removal orders."""


def score(here: RoundContext, calibrated: Calibrated) -> Stage:
    """Write `scores.safetensors`, per consumer input, and `removals.safetensors`, per site."""
    recipe, start = here.context.recipe, here.start
    units = [(site.name, site.units) for site in start.sites]
    seed = recipe.seed if isinstance(recipe.score, Random) else None
    inputs: list[Any] = [start.key, calibrated.key, units, recipe.score.model_dump(), seed]
    if isinstance(recipe.score, Numerical):  # the only score that depends on `keep`
        inputs.append(recipe.keep)

    def write(folder: Path) -> None:
        _write_from_disk(here, calibrated, folder)

    def write_at_once(folder: Path) -> None:
        _write_at_once(here, calibrated, folder)

    make = Together(write) if calibrated.passing is None else InParts(write_at_once)
    return here.learned("score", "scores", inputs, make)


def _write_from_disk(here: RoundContext, calibrated: Calibrated, folder: Path) -> None:
    start, observer = here.start, here.context.observer
    own = [start.sites[index] for index in dealt([work_of(site) for site in start.sites])]
    observer.expect(sum(map(work_of, own)))
    tensors: dict[str, Tensor] = {}
    for scored in _scored(here, calibrated.in_turn(own)):
        tensors |= _tensors(scored)
        observer.advance(work_of(scored.site))
    for others in gathered(tensors):
        tensors |= others
    _save(tensors, folder)


def _write_at_once(here: RoundContext, calibrated: Calibrated, folder: Path) -> None:
    """Score a block when its statistics are whole, and drop them. A part has the scores of a block."""
    moments, sites, observer = calibrated.passing, here.start.sites, here.context.observer
    assert moments is not None
    here.require_space(0)
    length = float(moments.windows.lengths.mean())
    observer.expect(moments.passes + sum(_texts(site, length) for site in sites))
    parts = {site.block: folder / f"block_{site.block:03d}.safetensors" for site in sites}
    known = {block for block, part in parts.items() if part.is_file()}
    observer.advance(sum(_texts(site, length) for site in sites if site.block in known))
    for index, statistics in enumerate(moments.collected(known.__contains__)):
        if not statistics:
            continue
        tensors: dict[str, Tensor] = {}
        for scored in _scored(here, calibrated.passed(sites, statistics)):
            tensors |= _tensors(scored)
            observer.advance(_texts(scored.site, length))
        save_whole(tensors, parts[index])
    _save({name: part for path in parts.values() for name, part in load_file(path).items()}, folder)
    for path in parts.values():
        path.unlink()


def _texts(site: Site, length: float) -> int:
    """The work of scoring a site, in passes of a text through a block: about as many operations as the
    sums over so many texts of `length` tokens."""
    return max(1, round(site.inputs / length))


def _scored(here: RoundContext, given: Iterable[tuple[Site, Statistics]]) -> Iterator[SiteScore]:
    recipe, start = here.context.recipe, here.start

    def with_weights() -> Iterator[tuple[Site, Tensor, Statistics]]:
        for site, statistics in given:
            weight = weight_of(start.model, start.family, site.block, site.consumer)
            yield site, weight, statistics.to(weight.device)

    return score_sites(with_weights(), recipe.score, keep=recipe.keep, seed=recipe.seed)


def _tensors(scored: SiteScore) -> dict[str, Tensor]:
    name, removal = scored.site.name, scored.removal
    return {
        f"{name}{COLUMNS}": scored.columns.cpu(),
        f"{name}.order": removal.order.cpu(),
        f"{name}.error": removal.error.cpu(),
    }


def _save(tensors: Mapping[str, Tensor], folder: Path) -> None:
    scores = {name for name in tensors if name.endswith(COLUMNS)}
    save_whole(
        {name.removesuffix(COLUMNS): tensors[name] for name in sorted(scores)}, folder / SCORES
    )
    save_whole({name: tensors[name] for name in sorted(tensors.keys() - scores)}, folder / REMOVALS)


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
