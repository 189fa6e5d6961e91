"""Curves through a latency table: predicted latency of a sublayer of any width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from numprune_export.models.site import Kind, Site
from numprune_export.pruning.allocate.latency.table import LatencyTable


class Curve(Protocol):
    """Number of kept units to milliseconds: 0 for no units, else positive and non-decreasing."""

    def __call__(self, units: int) -> float: ...


Curves = Mapping[Kind, Curve]


@dataclass(frozen=True)
class Polyline:
    """Linear between knots, constant before the first knot, 0 for no units."""

    widths: tuple[int, ...]
    """Rising."""
    milliseconds: tuple[float, ...]
    """Never falling."""

    def __call__(self, units: int) -> float:
        return float(np.interp(units, self.widths, self.milliseconds)) if units else 0.0

    def scaled(self, factor: float) -> Polyline:
        return Polyline(self.widths, tuple(factor * value for value in self.milliseconds))


def fit_polyline(column: Mapping[int, float]) -> Polyline:
    """Isotonic regression of the measured times (pool adjacent violators), interpolated linearly.

    It generalises the step and ramp of Kwon et al. 2022 (arXiv:2204.09656, Eq. 10). A wider
    sublayer measured as faster is noise; a search over raw times would select such widths and
    predict too little.
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
    return Polyline(tuple(int(width) for width in widths), tuple(level))


def predict(sites: Sequence[Site], counts: Sequence[int], curves: Curves) -> float:
    """Predicted milliseconds of all sublayers with these numbers of units."""
    return sum(curves[site.kind](count) for site, count in zip(sites, counts, strict=True))


def fitted(sites: Sequence[Site], table: LatencyTable) -> Curves:
    """Polylines through the table's columns, scaled so that the dense model is predicted exactly.

    The weights of a sublayer timed alone fit into a processor cache that the whole model exceeds,
    so the unexplained latency grows with the width. It is distributed over the sublayers by
    scaling. The latency of the model without sublayers is `empty_ms`, the `fixed_ms` of a search.
    """
    curves = {kind: fit_polyline(column) for kind, column in table.milliseconds.items()}
    alone = predict(sites, [site.units for site in sites], curves)
    factor = (table.dense_ms - table.empty_ms) / alone
    return {kind: curve.scaled(factor) for kind, curve in curves.items()}


def _columns(column: Mapping[int, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    widths = sorted(column)
    return np.asarray(widths, dtype=np.float64), np.asarray([column[width] for width in widths])
