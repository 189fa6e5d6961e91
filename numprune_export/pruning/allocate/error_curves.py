"""Nested orders with their errors to a plan: cost goes where it buys the least error.

Every site has a curve: what is saved by removing its first k units, and the error that this makes
(`removal.Removal`). As errors of sites add up, the plan of the least error under a budget follows
from one multiplier λ for all sites: each stops where one more saving costs more than λ (Shoham &
Gersho 1988, bit allocation; exact at the vertices of the curves' lower convex hulls). So segments of
all hulls are taken by rising slope until the budget is met. In the last segment units go as far as
is needed, and what that leaves of the budget buys back units of any site.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import fsum
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from numprune_export.core.errors import NumericalError
from numprune_export.models.site import Site
from numprune_export.numerics.convex_hull import lower_hull
from numprune_export.numerics.removal_order import RemovalOrder
from numprune_export.pruning.allocate.budget import Budget
from numprune_export.pruning.allocate.latency.settings import Timing
from numprune_export.pruning.allocate.widths import Widths
from numprune_export.pruning.plan import Plan

Price = Callable[[Site, Sequence[int]], float]
"""What a site costs with these units kept, in any order: never negative. Parameters, multiply-
accumulates, or milliseconds of a latency table, which may go by the number alone."""


class Curves(Widths):
    """Every sublayer is cut where that costs the least error, by the score's own error curves."""

    method: Literal["curves"] = "curves"
    cost: Literal["parameters", "macs", "bytes", "milliseconds"] = "parameters"
    """What `keep` is a fraction of. A fraction in bytes is that in parameters. `milliseconds`: of an
    encoder, on a target of the run, see `timing`."""
    timing: Timing = Timing()
    """With `cost: milliseconds`: where, at which shape, and the budget itself."""
    length: PositiveFloat | None = None
    """Tokens of a text that multiply-accumulates are counted at; null: the mean of the calibration
    data."""
    attention: PositiveFloat | Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (
        1.0,
        1.5,
        2.0,
        3.0,
    )
    """What errors of attention are multiplied by: they go on into later layers more than those of
    an MLP, which a curve of one sublayer does not see. Of several, the one whose pruned model is
    nearest to the dense one, on text of its own (`generated_text`) or else on calibration text."""
    convex: bool = True
    """Follow the lower convex hulls; false: the curves themselves, so that a dear unit hides the
    cheap ones behind it."""
    align_to: PositiveInt = 8
    """MLP widths are multiples of this, or the full width, or nothing."""

    @model_validator(mode="after")
    def _timing_counts(self) -> Curves:
        if self.cost != "milliseconds" and self.timing != Timing():
            raise ValueError("`timing` needs `cost: milliseconds`")
        return self

    @property
    def timed(self) -> Timing | None:
        """Where milliseconds are the cost: how they are measured."""
        return self.timing if self.cost == "milliseconds" else None

    @property
    def candidates(self) -> tuple[float, ...]:
        """Values of `attention` to choose from."""
        return self.attention if isinstance(self.attention, tuple) else (self.attention,)


@dataclass(frozen=True)
class _Curve:
    """What one site may keep, most first, without choices that another is better than."""

    counts: list[int]
    costs: NDArray[np.float64]
    """One per count, strictly falling."""
    errors: NDArray[np.float64]
    """One per count, never falling."""


@dataclass(frozen=True)
class _Segment:
    """From one choice of a site to a later one."""

    slope: float
    """Error per cost saved, never less than that of an earlier segment of the site."""
    gone: float
    """Fraction of the site's cost that is saved at its end: of equal slopes, the fuller sites go
    first."""
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
    """The plan of the least summed error whose cost is at most `keep` of the whole.

    Exact if the budget is met at a vertex of a hull; else the error is at most that of the last
    vertex before it, one segment of one site away.

    Args:
        sites: All prunable sites.
        removals: By site name, errors in one unit of measure.
        keep: Fraction of the cost of all units that may stay.
        settings: Floors, alignment, and whether to follow the hulls.
        attention: What errors of attention are multiplied by.
        price: The cost; None: parameters.

    Raises:
        RecipeError: the floors alone cost more; the message says the smallest `keep` that works.
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
    whole = fsum(one.costs[0] for one in curves)
    budget = keep * whole
    Budget(budget, advice=settings.advice).check(fsum(one.costs[-1] for one in curves), whole)
    choices = _descend(curves, budget, convex=settings.convex)
    _buy_back(curves, choices, budget)
    kept = {
        site.name: removals[site.name].kept(one.counts[choice])
        for site, one, choice in zip(sites, curves, choices, strict=True)
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
    """Which choice of every curve, taking segments by rising slope until they fit."""
    choices = [0] * len(curves)
    costs = [float(one.costs[0]) for one in curves]
    merged = sorted(
        (segment for site, one in enumerate(curves) for segment in _segments(site, one, convex)),
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
    # Rounding must not put a segment before an earlier one of its site.
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
    """Spend what is left, the largest fall of the error per cost that fits first."""
    while True:
        left = budget - fsum(one.costs[choice] for one, choice in zip(curves, choices, strict=True))
        offers = [
            _best_offer(one, choice, left) for one, choice in zip(curves, choices, strict=True)
        ]
        site = max(range(len(curves)), key=lambda index: (offers[index][0], -index))
        rate, choice = offers[site]
        if rate <= 0:
            return
        choices[site] = choice


def _best_offer(curve: _Curve, now: int, left: float) -> tuple[float, int]:
    """The most error that a site loses per cost by an earlier choice that costs at most `left` more,
    and that choice; a rate of 0 if there is none."""
    # Costs fall along the choices: the affordable ones stand just before the present one.
    first = int(np.searchsorted(-curve.costs[:now], -(curve.costs[now] + left)))
    if first == now:
        return 0.0, now
    dearer = curve.costs[first:now] - curve.costs[now]
    rates = (curve.errors[now] - curve.errors[first:now]) / dearer
    best = int(np.argmax(rates))
    return float(rates[best]), first + best
