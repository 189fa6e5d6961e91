"""Curves: the plan of the least summed error under a budget, from the removal orders of all sites.

Every site has a curve: the cost saved by removing its first k units, and the resulting error
(`removal_order.RemovalOrder`). Errors of sites add up, so one multiplier λ for all sites gives the
plan of the least error: each site stops where a further saving costs more than λ (Shoham & Gersho
1988, bit allocation; exact at the vertices of the curves' lower convex hulls). Segments of all
hulls are therefore taken by rising slope until the budget is met. In the last segment only as many
units are removed as needed, and the rest of the budget buys back units of any site.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import fsum
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from numprune_export.core.errors import NumericalError
from numprune_export.models.site import Site
from numprune_export.numerics.convex_hull import lower_hull
from numprune_export.pruning.allocate.budget import Budget
from numprune_export.pruning.allocate.latency.settings import Timing
from numprune_export.pruning.allocate.widths import Widths
from numprune_export.pruning.plan import Plan

if TYPE_CHECKING:
    from numprune_export.numerics.removal_order import RemovalOrder

Price = Callable[[Site, Sequence[int]], float]
"""The cost of a site with these units kept, in any order; not negative. Parameters, multiply-
accumulates, or milliseconds of a latency table, which may depend on the number of units only."""


class Curves(Widths):
    """`curves`: the plan of the least summed error, by the error curves of the score."""

    method: Literal["curves"] = "curves"
    cost: Literal["parameters", "macs", "bytes", "milliseconds"] = "parameters"
    """The cost that `keep` is a fraction of. Fractions of bytes and of parameters are equal.
    `milliseconds`: latency of an encoder on a target of the run, see `timing`."""
    timing: Timing = Timing()
    """With `cost: milliseconds`: target and shape of the timing, and the budget."""
    length: PositiveFloat | None = None
    """Text length in tokens at which multiply-accumulates are counted; null: the mean of the
    calibration data."""
    attention: PositiveFloat | Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (
        1.0,
        1.5,
        2.0,
        3.0,
    )
    """Weight of attention errors relative to MLP errors: attention errors propagate further into
    later layers, which the curve of one sublayer does not include. Of several values, the one whose
    pruned model is nearest to the dense model is chosen, on generated text (`generated_text`) if
    there is any, else on calibration text."""
    convex: bool = True
    """Follow the lower convex hulls; false: the curves themselves, where an expensive unit blocks
    the cheaper units after it."""
    align_to: PositiveInt = 8
    """MLP widths are multiples of this, or the full width, or 0."""

    @model_validator(mode="after")
    def _timing_counts(self) -> Curves:
        if self.cost != "milliseconds" and self.timing != Timing():
            raise ValueError("`timing` needs `cost: milliseconds`")
        return self

    @property
    def timed(self) -> Timing | None:
        """The timing settings if the cost is milliseconds, else None."""
        return self.timing if self.cost == "milliseconds" else None

    @property
    def candidates(self) -> tuple[float, ...]:
        """Values of `attention` to choose from."""
        return self.attention if isinstance(self.attention, tuple) else (self.attention,)


@dataclass(frozen=True)
class _Curve:
    """The choices of one site, largest count first, without dominated choices."""

    counts: list[int]
    costs: NDArray[np.float64]
    """One per count, strictly falling."""
    errors: NDArray[np.float64]
    """One per count, never falling."""


@dataclass(frozen=True)
class _Segment:
    """A step from one choice of a site to a later one."""

    slope: float
    """Error per cost saved, at least that of the site's earlier segments."""
    gone: float
    """Fraction of the site's cost that is saved at the segment's end; among equal slopes, the lower
    fraction comes first."""
    site: int
    start: int
    end: int


def allocate(
    sites: Sequence[Site],
    removals: Mapping[str, RemovalOrder],
    keep: float,
    settings: Curves,
    *,
    attention: float = 1.0,
    price: Price | None = None,
) -> Plan:
    """The plan of the least summed error whose cost is at most `keep` of the present cost.

    Exact if the budget is met at a vertex of a hull; otherwise the error is at most that of the
    next cheaper vertex, one segment of one site away.

    Args:
        sites: All prunable sites.
        removals: By site name, errors in the same unit of measure for all sites.
        keep: Fraction of the cost of all units that may stay.
        settings: Floors, alignment, and whether to follow the hulls.
        attention: Weight of attention errors.
        price: The cost function; None: parameters.

    Raises:
        RecipeError: the floors alone cost more; the message gives the smallest `keep` that works.
        NumericalError: an error is not finite.
    """
    price = price or Site.cost
    curves = [
        _curve(
            site,
            removals[site.name],
            settings,
            attention if site.kind == "attention" else 1.0,
            price,
        )
        for site in sites
    ]
    whole = fsum(curve.costs[0] for curve in curves)
    budget = keep * whole
    Budget(budget, advice=settings.advice).check(fsum(curve.costs[-1] for curve in curves), whole)
    choices = _descend(curves, budget, convex=settings.convex)
    _buy_back(curves, choices, budget)
    kept = {
        site.name: removals[site.name].kept(curve.counts[choice])
        for site, curve, choice in zip(sites, curves, choices, strict=True)
    }
    return Plan(tuple(sites), kept)


def _curve(
    site: Site, removal: RemovalOrder, settings: Curves, multiplier: float, price: Price
) -> _Curve:
    if not bool(removal.error.isfinite().all()):
        raise NumericalError(
            f"the error curve of `{site.name}` is not finite",
            hint="check the checkpoint and the calibration text",
        )
    order, errors = removal.order.tolist(), multiplier * removal.error.cpu().numpy()
    counts: list[int] = []
    costs: list[float] = []
    for count in reversed(settings.counts(site)):
        cost = price(site, order[site.units - count :])
        if not costs or cost < costs[-1]:
            counts.append(count)
            costs.append(cost)
    return _Curve(counts, np.asarray(costs, np.float64), errors[site.units - np.asarray(counts)])


def _descend(curves: Sequence[_Curve], budget: float, *, convex: bool) -> list[int]:
    """The choice of every curve after taking segments by rising slope until the budget is met."""
    choices = [0] * len(curves)
    costs = [float(curve.costs[0]) for curve in curves]
    merged = sorted(
        (step for site, curve in enumerate(curves) for step in _segments(site, curve, convex)),
        key=lambda segment: (segment.slope, segment.gone, segment.site, segment.end),
    )
    for segment in merged:
        for choice in range(segment.start + 1, segment.end + 1):
            if fsum(costs) <= budget:
                return choices
            choices[segment.site] = choice
            costs[segment.site] = float(curves[segment.site].costs[choice])
    return choices


def _segments(site: int, curve: _Curve, convex: bool) -> Iterator[_Segment]:
    saved = (curve.costs[0] - curve.costs).tolist()
    errors = curve.errors.tolist()
    ends = lower_hull(saved, errors) if convex else range(len(saved))
    # Rounding must not order a segment before an earlier segment of its site.
    slopes = accumulate(
        (
            (errors[end] - errors[start]) / (saved[end] - saved[start])
            for start, end in pairwise(ends)
        ),
        max,
    )
    for slope, (start, end) in zip(slopes, pairwise(ends), strict=True):
        yield _Segment(slope, saved[end] / float(curve.costs[0]), site, start, end)


def _buy_back(curves: Sequence[_Curve], choices: list[int], budget: float) -> None:
    """Spend the rest of the budget, the largest error decrease per cost that fits first."""
    while True:
        chosen = list(zip(curves, choices, strict=True))
        left = budget - fsum(curve.costs[choice] for curve, choice in chosen)
        offers = [_best_offer(curve, choice, left) for curve, choice in chosen]
        site = max(range(len(curves)), key=lambda index: (offers[index][0], -index))
        rate, choice = offers[site]
        if rate <= 0:
            return
        choices[site] = choice


def _best_offer(curve: _Curve, now: int, left: float) -> tuple[float, int]:
    """The earlier choice within `left` of further cost that lowers the error most per cost.

    Returns:
        The decrease per cost, and the choice; a decrease of 0 if no choice fits.
    """
    # Costs fall along the choices: the affordable ones directly precede the present one.
    first = int(np.searchsorted(-curve.costs[:now], -(curve.costs[now] + left)))
    if first == now:
        return 0.0, now
    extra = curve.costs[first:now] - curve.costs[now]
    rates = (curve.errors[now] - curve.errors[first:now]) / extra
    best = int(np.argmax(rates))
    return float(rates[best]), first + best
