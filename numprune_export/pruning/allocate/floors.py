"""Whether a budget can be met at all: what floors and alignment keep, from shapes alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import fsum
from typing import Protocol

from numprune_export.models.site import Site
from numprune_export.pruning.allocate.budget import Budget

_ROUNDING = 1e-9
"""Of a `keep` that is exactly what the floors cost; the allocator has the last word."""


class Floors(Protocol):
    """Settings of an allocator that say how little a site may keep."""

    def counts(self, site: Site) -> list[int]:
        """Allowed numbers of kept units, rising; the last is all of them."""
        ...

    @property
    def advice(self) -> str:
        """How to make room for a smaller budget, to follow a hint."""
        ...


def require_reachable(
    sites: Sequence[Site],
    floors: Floors,
    keeps: Sequence[float],
    price: Callable[[Site, Sequence[int]], float],
) -> None:
    """Refuse a budget below what the floors keep, whatever the scores will be.

    Where query heads share a KV head, the cheapest choice of heads is counted: scores may choose a
    dearer one, and only the allocator knows.

    Args:
        sites: All prunable sites of the dense model.
        floors: The allocator's settings.
        keeps: One round after another, the fraction of the dense model's cost that may be left. In
            each a site keeps at least its floor of what the round before may have left.
        price: The cost of a site's kept units.

    Raises:
        RecipeError: the floors alone cost more; the message says the smallest `keep` that may work.
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
