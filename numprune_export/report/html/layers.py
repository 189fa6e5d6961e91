"""Sites of one kind as the rows of a plot, the first layer on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from numprune_export.report.schema import SiteWidth


@dataclass(frozen=True)
class Layer:
    site: SiteWidth
    number: int
    """Of the layer in the model."""
    row: int
    """Of the plot, from the top."""


def layers(plan: Sequence[SiteWidth], kind: str) -> tuple[Layer, ...]:
    """The sites of this kind: `attention` or `mlp`."""
    found = [(_number(one.site), one) for one in plan if one.site.endswith(f".{kind}")]
    return tuple(Layer(one, number, row) for row, (number, one) in enumerate(found))


def _number(site: str) -> int:
    """
    >>> _number("layers.12.mlp")
    12
    """
    middle = site.split(".")[-2]
    return int(middle) if middle.isdigit() else 0


def label_layers(axes: Axes, found: Sequence[Layer], *, height: float = 0.5) -> None:
    """One row for each, numbered; of very many only every fifth."""
    step = 1 if len(found) <= 48 else 5
    shown = [one for one in found if one.number % step == 0]
    axes.set_yticks([one.row for one in shown], [str(one.number) for one in shown])
    axes.set_ylim(len(found) - 1 + height, -height)
    axes.spines["bottom"].set_visible(False)
