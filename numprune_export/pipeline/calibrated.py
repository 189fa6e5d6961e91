"""What calibration has shown of a model: statistics, and gradients where the score needs them."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from numprune_export import statistics_folder
from numprune_export.calibrate import Statistics
from numprune_export.plan import Site
from numprune_export.run_folder import Stage, key_of


@dataclass(frozen=True)
class Calibrated:
    """Finished stages, read site by site."""

    statistics: Stage
    """Moments of the consumers' inputs: the same for every score and repair."""
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
        gradients = None if self.gradients is None else self.gradients.folder
        return statistics_folder.read_site(self.statistics.folder, site, gradients)

    def unit_gradients(self, site: Site) -> Float[Tensor, "rows units"] | None:
        """Gradients of its unit masks, or None if calibration gathered none."""
        if self.gradients is None:
            return None
        return statistics_folder.read_gradients(self.gradients.folder, site)
