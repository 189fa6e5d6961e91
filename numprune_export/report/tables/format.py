"""Format numbers for display: rounded, with their unit."""

import math
from collections.abc import Iterable

from numprune_export.report.schema import SiteWidth


def count(value: float) -> str:
    """A count with the suffix B, M or k.

    >>> count(134_515_008), count(960)
    ('134.5 M', '960')
    """
    for limit, suffix in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (limit if suffix != 'k' else 1e3):.1f} {suffix}"
    return f"{value:g}"


def size(value: float) -> str:
    """A size in bytes with a binary unit.

    >>> size(538_060_032), size(512)
    ('513.1 MiB', '512 B')
    """
    for limit, suffix in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if abs(value) >= limit:
            return f"{value / limit:.1f} {suffix}"
    return f"{value:g} B"


def number(value: float) -> str:
    """A number with four significant digits; scientific notation only below 0.001.

    >>> number(18.23456), number(0.00000123), number(float("inf"))
    ('18.23', '1.230e-06', 'inf')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e-3 <= abs(value) < 1e4:
        return f"{value:.4g}"
    return f"{value:.3e}" if abs(value) < 1 else f"{value:.0f}"


def percent(fraction: float) -> str:
    """A fraction in percent.

    >>> percent(0.2388)
    '23.9 %'
    """
    return f"{100 * fraction:.1f} %"


def measured(value: float, unit: str) -> str:
    """A value with its unit, scaled if the unit allows it."""
    if unit == "bytes":
        return size(value)
    if unit in ("parameters", "MACs"):
        return count(value)
    if unit == "ratio":
        return f"{value:.2f}x"
    if unit in ("fraction", "correlation"):
        return f"{value:.4f}"
    return f"{number(value)} {unit}"


def attention_unit(sites: Iterable[SiteWidth]) -> str:
    """The noun for attention units: heads, KV groups or, for older reports, attention units.

    >>> attention_unit([SiteWidth(site="layers.0.attention", kept=2, units=3, heads_per_unit=3)])
    'KV groups'
    """
    heads_per_unit = {site.heads_per_unit for site in sites if site.site.endswith(".attention")}
    if heads_per_unit == {1}:
        return "heads"
    return "attention units" if None in heads_per_unit or not heads_per_unit else "KV groups"
