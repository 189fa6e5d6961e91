"""Curves through a latency table: what a sublayer of any width will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from numprune_export.models.site import Kind, Site
from numprune_export.pruning.allocate.latency.table import LatencyTable


class Curve(Protocol):
    """Units kept to milliseconds: 0 for none, else positive and never falling."""

    def __call__(self, units: int) -> float: ...


Curves = Mapping[Kind, Curve]


@dataclass(frozen=True)
class Polyline:
    """Linear between knots, flat before the first one, 0 without units."""

    widths: tuple[int, ...]
    """Rising."""
    milliseconds: tuple[float, ...]
    """Never falling."""

    def __call__(self, units: int) -> float:
        return float(np.interp(units, self.widths, self.milliseconds)) if units else 0.0

    def scaled(self, factor: float) -> Polyline:
        return Polyline(self.widths, tuple(factor * one for one in self.milliseconds))


def fit_polyline(column: Mapping[int, float]) -> Polyline:
    """The never falling sequence nearest in least squares to the measured times, joined by lines.

    In place of the step and one ramp of Kwon et al. 2022 (arXiv:2204.09656, Eq. 10), which it contains.

    A wider sublayer measured as faster is noise; a search over raw times would pick just those
    widths and be too hopeful. Falling neighbours become their mean (pool adjacent violators).
    """
    widths, times = _columns(column)
    pools: list[tuple[float, int]] = []
    for time in times.tolist():
        mean, size = time, 1
        while pools and pools[-1][0] > mean:
            other, count = pools.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        pools.append((mean, size))
    level = [mean for mean, size in pools for _ in range(size)]
    return Polyline(tuple(int(one) for one in widths), tuple(level))


def predict(sites: Sequence[Site], counts: Sequence[int], curves: Curves) -> float:
    """Milliseconds of all sublayers with these numbers of units."""
    return sum(curves[site.kind](count) for site, count in zip(sites, counts, strict=True))


def fitted(sites: Sequence[Site], table: LatencyTable) -> Curves:
    """Polylines through the table's columns, scaled so that the dense model is predicted exactly.

    A sublayer timed alone finds its weights in a cache that those of the whole model do not fit, so
    what the columns leave unexplained grows with the width. It is spread over the sublayers; what
    the model takes without any of them is `empty_ms`, the `fixed_ms` of a search.
    """
    curves = {kind: fit_polyline(column) for kind, column in table.milliseconds.items()}
    alone = predict(sites, [site.units for site in sites], curves)
    factor = (table.dense_ms - table.empty_ms) / alone
    return {kind: curve.scaled(factor) for kind, curve in curves.items()}


def _columns(column: Mapping[int, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    widths = sorted(column)
    return np.asarray(widths, dtype=np.float64), np.asarray([column[one] for one in widths])
