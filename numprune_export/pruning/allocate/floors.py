"""Early check, from shapes only, whether floors and alignment allow a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import fsum
from typing import Protocol

from numprune_export.models.site import Site
from numprune_export.pruning.allocate.budget import Budget

_ROUNDING = 1e-9
"""Relative tolerance for a `keep` that equals the cost of the floors; the allocator decides
exactly."""


class Floors(Protocol):
    """Settings of an allocator that bound the kept units of a site."""

    def counts(self, site: Site) -> list[int]:
        """Allowed numbers of kept units, rising; the last is all of them."""
        ...

    @property
    def advice(self) -> str:
        """How to allow a smaller budget; appended to the hint."""
        ...


def require_reachable(
    sites: Sequence[Site],
    floors: Floors,
    keeps: Sequence[float],
    price: Callable[[Site, Sequence[int]], float],
) -> None:
    """Refuse a budget below the cost of the floors, which holds for any scores.

    Where query heads share a KV head, the cheapest choice of heads is counted. Scores may select a
    more expensive choice; the allocator checks that.

    Args:
        sites: All prunable sites of the dense model.
        floors: The allocator's settings.
        keeps: By round, the fraction of the dense model's cost that may stay. In each round a site
            keeps at least its floor of the smallest width of the previous round.
        price: The cost of a site's kept units.

    Raises:
        RecipeError: the floors alone cost more; the message gives a lower bound on `keep`.
    """
    whole = fsum(price(site, range(site.units)) for site in sites)
    left = [site.units for site in sites]
    for keep in keeps:
        left = [_least(site, units, floors) for site, units in zip(sites, left, strict=True)]
        least = fsum(
            price(site, site.layout(range(site.units))[:units])
            for site, units in zip(sites, left, strict=True)
        )
        if least > (keep + _ROUNDING) * whole:
            Budget(keep * whole, advice=floors.advice).check(least, whole)


def _least(site: Site, units: int, floors: Floors) -> int:
    return floors.counts(replace(site, units=units, groups=()))[0] if units else 0
