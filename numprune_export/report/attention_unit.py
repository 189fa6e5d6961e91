"""What is removed of an attention in one piece, as a report says it."""

from __future__ import annotations

from collections.abc import Iterable

from numprune_export.report.schema import SiteWidth


def attention_unit(sites: Iterable[SiteWidth]) -> str:
    """In the plural; reports of before do not say which.

    >>> attention_unit([SiteWidth(site="layers.0.attention", kept=2, units=3, heads_per_unit=3)])
    'KV groups'
    """
    told = {one.heads_per_unit for one in sites if one.site.endswith(".attention")}
    if told == {1}:
        return "heads"
    return "attention units" if None in told or not told else "KV groups"
