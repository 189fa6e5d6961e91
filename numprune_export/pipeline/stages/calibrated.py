"""What calibration has shown of a model: statistics, and gradients where the score needs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from jaxtyping import Float
from torch import Tensor

from numprune_export.calibration import store as statistics_store
from numprune_export.calibration.statistics import Statistics
from numprune_export.core.run_folder import Stage, key_of
from numprune_export.models.site import Site
from numprune_export.pruning.allocate.error_curves import Curves
from numprune_export.pruning.compensate.bias import Bias
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.pruning.score.fisher import Fisher
from numprune_export.pruning.score.magnitude import Magnitude
from numprune_export.pruning.score.random import Random
from numprune_export.recipe import Recipe


def reads_moments(recipe: Recipe) -> bool:
    """Whether any step asks for moments of the starting model's activations."""
    settings = recipe.allocate
    return (
        not isinstance(recipe.score, Fisher | Magnitude | Random)
        or (repairs_at_once(recipe) and not repairs_on_more_text(recipe))
        or (isinstance(settings, Curves) and len(settings.candidates) > 1)
        or recipe.rounds > 1
    )


def repairs_at_once(recipe: Recipe) -> bool:
    """Whether the repair reads moments of the dense model."""
    repair = recipe.compensate
    return isinstance(repair, ClosedForm | Bias) and repair.order == "one_shot"


def repairs_on_more_text(recipe: Recipe) -> bool:
    """Whether the repair reads text of the model's own too."""
    return recipe.self_calibration.sequences > 0


@dataclass(frozen=True)
class Calibrated:
    """Finished stages, read site by site."""

    statistics: Stage | None
    """Moments of the consumers' inputs: the same for every score and repair. None: nothing reads
    them."""
    gradients: Stage | None
    """None: the score needs none."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        return tuple(one for one in (self.statistics, self.gradients) if one is not None)

    @property
    def key(self) -> str:
        return key_of(*(one.key for one in self.stages))

    def read(self, site: Site) -> Statistics:
        """All that is known of one site."""
        if self.statistics is None:
            return replace(Statistics.of_nothing(site), unit_gradients=self.unit_gradients(site))
        gradients = None if self.gradients is None else self.gradients.folder
        return statistics_store.read_site(self.statistics.folder, site, gradients)

    def in_turn(self, sites: Sequence[Site]) -> Iterator[tuple[Site, Statistics]]:
        """Every site with what is known of it, the next one on its way from the disk."""
        for site, following in zip_longest(sites, sites[1:]):
            if following is not None and self.statistics is not None:
                gradients = None if self.gradients is None else self.gradients.folder
                statistics_store.soon(self.statistics.folder, following, gradients)
            yield site, self.read(site)

    def unit_gradients(self, site: Site) -> Float[Tensor, "rows units"] | None:
        """Gradients of its unit masks, or None if calibration gathered none."""
        if self.gradients is None:
            return None
        return statistics_store.read_gradients(self.gradients.folder, site)
