"""Allowed widths of a site: floors and alignment."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, PositiveInt

from numprune_export.core.settings import Strict
from numprune_export.models.site import Site


class Widths(Strict):
    """Floors and alignment; a site that may be empty may lose all its units."""

    min_keep: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Least fraction of its units that a site keeps."""
    align_to: PositiveInt = 1
    """MLP widths are multiples of this, or the full width, or 0."""

    def counts(self, site: Site) -> list[int]:
        """Allowed numbers of kept units, rising; the last is all of them.

        >>> from numprune_export.models.site import Producer
        >>> mlp = Site(0, "mlp", 20, (Producer("up", 1),), "down", 1, 9, may_be_empty=True)
        >>> Widths(align_to=8).counts(mlp)
        [0, 8, 16, 20]
        """
        step = self.align_to if site.kind == "mlp" else 1
        least = max(0 if site.may_be_empty else 1, math.ceil(self.min_keep * site.units - 1e-9))
        return [n for n in range(0, site.units, step) if n >= least] + [site.units]

    @property
    def advice(self) -> str:
        """How to allow a smaller budget; appended to the hint."""
        return advice(self.min_keep, self.align_to)


def advice(min_keep: float, align_to: int) -> str:
    """Which floors to lower for a smaller budget; appended to the hint. Empty if there are no
    floors."""
    if min_keep == 0 and align_to == 1:
        return ""
    return f", or lower `min_keep` ({min_keep:g}) or `align_to` ({align_to})"
