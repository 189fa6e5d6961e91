"""Logarithmic axes whose labels are plain text."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from numprune_export.report.tables.format import number

_DECADES = 1.5
"""Below so many, numbers between the powers of ten are labelled too."""


def logarithmic(axes: Axes, low: float, high: float) -> None:
    """Make the x axis one, for values from `low` to `high`, both above 0."""
    axes.set_xscale("log")
    subs = (1.0,) if high / low > 10**_DECADES else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.xaxis.set_minor_locator(NullLocator())


def tick(value: float) -> str:
    """
    >>> tick(0.0001), tick(20.0), tick(2e7)
    ('1e-4', '20', '2e7')
    """
    if 1e-3 <= value < 1e5:
        return number(value)
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}"
