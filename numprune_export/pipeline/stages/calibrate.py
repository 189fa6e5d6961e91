"""The calibrate stages: statistics of consumers' inputs, and gradients if the score needs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from numprune_export.calibration import store as statistics_store
from numprune_export.calibration.statistics import Statistics, collect
from numprune_export.calibration.token_stride import bounded_stride
from numprune_export.core.stage import InParts, Stage, Together, key_of
from numprune_export.data.corpus import Windows
from numprune_export.models.site import Site
from numprune_export.numerics.ranks import sharing, told
from numprune_export.pipeline.kinds.calibration_texts import CalibrationTexts, windows_key
from numprune_export.pipeline.kinds.kind import Gradients
from numprune_export.pipeline.stages.round_context import RoundContext
from numprune_export.pruning.allocate.error_curves import Curves
from numprune_export.pruning.compensate.bias import Bias
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.pruning.score.fisher import Fisher
from numprune_export.pruning.score.fisher_obs import FisherObs
from numprune_export.pruning.score.magnitude import Magnitude
from numprune_export.pruning.score.random import Random
from numprune_export.recipe import Recipe


def calibrate(here: RoundContext, texts: CalibrationTexts, gradients: Gradients) -> Calibrated:
    """Collect the statistics and gradients of a round's starting model that the recipe needs.

    Args:
        here: The round.
        texts: Texts for statistics and for gradients.
        gradients: The gradients that the score needs.
    """
    statistics = None
    if reads_moments(here.context.recipe):
        windows = _Windows(texts.moments, texts.batch, _token_stride(here, texts.moments))
        statistics = _moments(here, windows, "calibrate", "statistics")
    key = gradients.key
    if key is None:
        return Calibrated(statistics, None)

    def write(folder: Path) -> None:
        _write_gradients(here, texts, gradients, folder)

    inputs = [here.start.key, windows_key(texts.gradients), texts.batch, key]
    return Calibrated(statistics, here.learned("gradients", "gradients", inputs, Together(write)))


def calibrate_compensation(here: RoundContext, texts: CalibrationTexts) -> Calibrated:
    """Collect statistics of the starting model on the texts of the compensation."""
    windows = _Windows(texts.compensation, texts.batch, 1)
    return Calibrated(_moments(here, windows, "calibrate-repair", "repair_statistics"), None)


@dataclass(frozen=True)
class _Windows:
    """Texts and settings of accumulated statistics."""

    windows: Windows
    batch: int
    stride: int
    """Token stride; 1: all tokens."""


def _moments(here: RoundContext, text: _Windows, name: str, place: str) -> Stage:
    def write(folder: Path) -> None:
        _write_statistics(here, text, folder)

    inputs = [here.start.key, windows_key(text.windows), text.batch, text.stride]
    return here.learned(name, place, inputs, Together(InParts(write)))


def _token_stride(here: RoundContext, windows: Windows) -> int:
    """Token stride of the statistics that the score reads."""
    score, sites, tokens = here.context.recipe.score, here.start.sites, int(windows.lengths.sum())
    widest = max((site.inputs for site in sites), default=1)
    return bounded_stride(score.token_stride, tokens, widest) if isinstance(score, FisherObs) else 1


def _write_statistics(here: RoundContext, text: _Windows, folder: Path) -> None:
    model, family, observer = here.start.model, here.start.family, here.context.observer
    here.require_space(statistics_store.size_bytes(here.start.sites))
    count, ranks = len(family.block_list(model)), sharing()
    observer.expect(count * len(text.windows.tokens) // ranks.world)
    written = [statistics_store.has_block(folder, index) for index in range(count)]
    written = told(written) if ranks.world > 1 else written
    blocks = collect(
        model, family, text.windows, text.batch, observer.advance, text.stride,
        known=written.__getitem__,
    )  # fmt: skip
    for index, statistics in enumerate(blocks):
        if ranks.first and not written[index]:
            statistics_store.write_block(folder, index, statistics)


def _write_gradients(
    here: RoundContext, texts: CalibrationTexts, gradients: Gradients, folder: Path
) -> None:
    model, observer = here.start.model, here.context.observer
    if isinstance(here.context.recipe.score, FisherObs):
        hidden = int(model.config.hidden_size)
        here.require_space(8 * hidden**2 * len(here.start.sites))
    statistics_store.write_gradients(folder, gradients.of_units(model, texts, observer))
    for fishers in gradients.of_outputs(model, texts, observer):
        statistics_store.write_output_fisher(folder, fishers)


def reads_moments(recipe: Recipe) -> bool:
    """Whether any step needs statistics of the starting model's activations."""
    settings = recipe.allocate
    return (
        not isinstance(recipe.score, Fisher | Magnitude | Random)
        or (repairs_at_once(recipe) and not repairs_on_more_text(recipe))
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
    """Statistics of the consumers' inputs, for all scores and compensations; None: not needed."""
    gradients: Stage | None
    """None: the score needs no gradients."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        return tuple(stage for stage in (self.statistics, self.gradients) if stage is not None)

    @property
    def key(self) -> str:
        return key_of(*(stage.key for stage in self.stages))

    def read(self, site: Site) -> Statistics:
        """The statistics of one site."""
        if self.statistics is None:
            return replace(Statistics.of_nothing(site), unit_gradients=self.unit_gradients(site))
        gradients = None if self.gradients is None else self.gradients.folder
        return statistics_store.read_site(self.statistics.folder, site, gradients)

    def in_turn(self, sites: Sequence[Site]) -> Iterator[tuple[Site, Statistics]]:
        """Every site with its statistics; the next site is prefetched from disk."""
        for site, following in zip_longest(sites, sites[1:]):
            if following is not None and self.statistics is not None:
                gradients = None if self.gradients is None else self.gradients.folder
                statistics_store.soon(self.statistics.folder, following, gradients)
            yield site, self.read(site)

    def unit_gradients(self, site: Site) -> Float[Tensor, "rows units"] | None:
        """Gradients of a site's unit masks, or None if there are none."""
        if self.gradients is None:
            return None
        return statistics_store.read_gradients(self.gradients.folder, site)
