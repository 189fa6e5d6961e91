"""The calibrate stages: statistics of consumers' inputs, and gradients if the score needs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from numprune_export.calibration import store as statistics_store
from numprune_export.calibration.statistics import Statistics
from numprune_export.calibration.token_stride import bounded_stride
from numprune_export.core.stage import Stage, Together, key_of
from numprune_export.models.site import Site
from numprune_export.numerics import ranks
from numprune_export.pipeline.kinds.calibration_texts import CalibrationTexts, windows_key
from numprune_export.pipeline.kinds.kind import Gradients
from numprune_export.pipeline.stages.moments import Moments
from numprune_export.pipeline.stages.round_context import RoundContext
from numprune_export.pruning.allocate.error_curves import Curves
from numprune_export.pruning.compensate.bias import Bias
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.pruning.score.fisher import Fisher
from numprune_export.pruning.score.fisher_obs import FisherObs
from numprune_export.pruning.score.magnitude import Magnitude
from numprune_export.pruning.score.numerical import Numerical
from numprune_export.pruning.score.random import Random
from numprune_export.recipe import Recipe


def calibrate(here: RoundContext, texts: CalibrationTexts, gradients: Gradients) -> Calibrated:
    """Collect the statistics and gradients of a round's starting model that the recipe needs.

    Args:
        here: The round.
        texts: Texts for statistics and for gradients.
        gradients: The gradients that the score needs.
    """
    statistics, passing = None, None
    if reads_moments(here.context.recipe):
        moments = _moments(here, texts)
        if _at_once(moments):
            passing = moments
            moments.abandon()
        else:
            statistics = moments.stored()
    key = gradients.key
    if key is None:
        return Calibrated(statistics, None, passing)

    def write(folder: Path) -> None:
        _write_gradients(here, texts, gradients, folder)

    inputs = [here.start.key, windows_key(texts.gradients), texts.batch, key]
    stage = here.learned("gradients", "gradients", inputs, Together(write))
    return Calibrated(statistics, stage, passing)


def calibrate_compensation(here: RoundContext, texts: CalibrationTexts) -> Calibrated:
    """Collect statistics of the starting model on the texts of the compensation."""
    place = "repair_statistics"
    moments = Moments(here, texts.compensation, texts.batch, 1, "calibrate-repair", place)
    return Calibrated(moments.stored(), None)


def _moments(here: RoundContext, texts: CalibrationTexts) -> Moments:
    """The statistics that the score reads."""
    score, sites, windows = here.context.recipe.score, here.start.sites, texts.moments
    widest, stride = max((site.inputs for site in sites), default=1), 1
    if isinstance(score, FisherObs):
        stride = bounded_stride(score.token_stride, int(windows.lengths.sum()), widest)
    return Moments(here, windows, texts.batch, stride)


def _at_once(moments: Moments) -> bool:
    """Whether the score takes the statistics as they are collected, and nothing is stored."""
    context = moments.here.context
    # The points of a sweep share scores, except those that depend on `keep`: they share statistics.
    again = context.shared is not None and isinstance(context.recipe.score, Numerical)
    several = (
        ranks.here().world > 1
    )  # the score deals sites to processes, which read them from disk
    return not (rereads_moments(context.recipe) or again or several or moments.begun)


def _write_gradients(
    here: RoundContext, texts: CalibrationTexts, gradients: Gradients, folder: Path
) -> None:
    model, observer = here.start.model, here.context.observer
    if isinstance(here.context.recipe.score, FisherObs):
        fisher = statistics_store.fisher_bytes(int(model.config.hidden_size))
        here.require_space(fisher * len(here.start.sites))
    statistics_store.write_gradients(folder, gradients.of_units(model, texts, observer))
    for fishers in gradients.of_outputs(model, texts, observer):
        statistics_store.write_output_fisher(folder, fishers)


def reads_moments(recipe: Recipe) -> bool:
    """Whether any step needs statistics of the starting model's activations."""
    return not isinstance(recipe.score, Fisher | Magnitude | Random) or rereads_moments(recipe)


def rereads_moments(recipe: Recipe) -> bool:
    """Whether a step after the score needs them, so that they are stored."""
    settings = recipe.allocate
    return (
        (repairs_at_once(recipe) and not repairs_on_more_text(recipe))
        or (isinstance(settings, Curves) and len(settings.candidates) > 1)
        or recipe.rounds > 1
    )


def repairs_at_once(recipe: Recipe) -> bool:
    """Whether the compensation reads statistics of the dense model."""
    method = recipe.compensate
    return isinstance(method, ClosedForm | Bias) and method.order == "one_shot"


def repairs_on_more_text(recipe: Recipe) -> bool:
    """Whether the compensation also reads generated text."""
    return recipe.generated_text.sequences > 0


@dataclass(frozen=True)
class Calibrated:
    """Finished calibration stages, read site by site."""

    statistics: Stage | None
    """Statistics of the consumers' inputs, for all scores and compensations; None: not stored."""
    gradients: Stage | None
    """None: the score needs no gradients."""
    passing: Moments | None = None
    """Statistics that the score takes as they are collected; nothing else reads any. None: they are
    stored, or not needed."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        return tuple(stage for stage in (self.statistics, self.gradients) if stage is not None)

    @property
    def key(self) -> str:
        """Of the statistics and gradients; the same whether or not they are stored."""
        passing = () if self.passing is None else (self.passing.key,)
        return key_of(*passing, *(stage.key for stage in self.stages))

    def read(self, site: Site) -> Statistics:
        """The statistics of one site, without gradients."""
        assert self.passing is None, "the score has dropped the statistics"
        if self.statistics is None:
            return Statistics.of_nothing(site)
        return statistics_store.read_site(self.statistics.folder, site)

    def with_gradients(self, site: Site, statistics: Statistics) -> Statistics:
        """The statistics with the gradients of a site, as far as there are any."""
        if self.gradients is None:
            return statistics
        fisher = statistics_store.read_output_fisher(self.gradients.folder, site)
        return replace(statistics, unit_gradients=self.unit_gradients(site), output_fisher=fisher)

    def in_turn(self, sites: Sequence[Site]) -> Iterator[tuple[Site, Statistics]]:
        """Every site with its statistics and gradients; the next site is prefetched from disk."""
        for site, following in zip_longest(sites, sites[1:]):
            if following is not None and self.statistics is not None:
                gradients = None if self.gradients is None else self.gradients.folder
                statistics_store.soon(self.statistics.folder, following, gradients)
            yield site, self.with_gradients(site, self.read(site))

    def passed(
        self, sites: Iterable[Site], statistics: dict[str, Statistics]
    ) -> Iterator[tuple[Site, Statistics]]:
        """The sites of a block with their statistics, which are taken out, and gradients."""
        for site in sites:
            if site.name in statistics:
                yield site, self.with_gradients(site, statistics.pop(site.name))

    def unit_gradients(self, site: Site) -> Float[Tensor, "rows units"] | None:
        """Gradients of a site's unit masks, or None if there are none."""
        if self.gradients is None:
            return None
        return statistics_store.read_gradients(self.gradients.folder, site)
