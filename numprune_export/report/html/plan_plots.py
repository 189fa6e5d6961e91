"""Plots of the kept attention heads and MLP channels in each layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from matplotlib.axes import Axes

from numprune_export.report.html.marks import Box, boxes
from numprune_export.report.html.svg import Plot, draw
from numprune_export.report.html.theme import DENSE, INK, PRUNED
from numprune_export.report.schema import SiteWidth
from numprune_export.report.tables.format import attention_unit, percent
from numprune_export.report.tables.table import ABSENT, Tabular

ROW = 15
"""CSS pixels per layer."""

_GAP = 0.5
"""Gap between groups of heads that share a KV head, in head widths."""

_KEY = (("kept", "kept"), ("removed", "removed"))


def plan_plots(plan: Sequence[SiteWidth]) -> tuple[Plot, ...]:
    """A grid of heads and a bar chart of channels, if the plan has such sites."""
    plots = (_heads(layers_of(plan, "attention")), _channels(layers_of(plan, "mlp")))
    return tuple(plot for plot in plots if plot is not None)


def plan_table(plan: Sequence[SiteWidth]) -> Tabular | None:
    """The data of both plots, layer by layer."""
    heads = {layer.number: layer.site for layer in layers_of(plan, "attention")}
    channels = {layer.number: layer.site for layer in layers_of(plan, "mlp")}
    rows = [
        (str(number), *_head_cells(heads.get(number)), _of(channels.get(number)))
        for number in sorted({*heads, *channels})
    ]
    unit = attention_unit(plan)
    header = ("layer", f"{unit} kept", f"{unit} removed", "MLP channels kept")
    return Tabular(header, tuple(rows)) if rows else None


def _head_cells(site: SiteWidth | None) -> tuple[str, str]:
    if site is None:
        return ABSENT, ABSENT
    if site.kept_units is None:
        return _of(site), ABSENT
    gone = [str(unit) for unit in range(site.units) if unit not in set(site.kept_units)]
    return _of(site), ", ".join(gone) or "none"


def _of(site: SiteWidth | None) -> str:
    return ABSENT if site is None else f"{site.kept} of {site.units}"


def _heads(layers: Sequence[Layer]) -> Plot | None:
    if not layers:
        return None
    sites = [layer.site for layer in layers]
    unit, kept, units = (
        attention_unit(sites),
        sum(s.kept for s in sites),
        sum(s.units for s in sites),
    )
    title = f"Attention {unit.removeprefix('attention ')} kept in each layer"
    known = all(site.kept_units is not None for site in sites)
    wide = max(_end(site) for site in sites)

    def paint(axes: Axes) -> None:
        stay = [box for layer in layers for box in _cells(layer, kept=True)]
        gone = [box for layer in layers for box in _cells(layer, kept=False)]
        boxes(axes, gone, facecolor="none", edgecolor=DENSE, linewidth=0.8)
        boxes(axes, stay, facecolor=PRUNED, edgecolor=PRUNED, linewidth=0.8)
        label_layers(axes, layers)
        axes.set_xlim(-0.2, wide + 0.2)
        axes.set_xticks([])

    description = f"{kept} of {units} {unit} kept, {percent(kept / units)}. " + "; ".join(
        f"layer {layer.number}: {_of(layer.site)}" for layer in layers
    )
    caption = f"One row per layer. {kept} of {units} {unit} kept ({percent(kept / units)})."
    caption += _unit_note(sites)
    if not known:
        caption += " This report holds only the number of kept units: they are drawn on the left."
    svg = draw("heads", 14 + ROW * len(layers), paint, title=title, description=description)
    return Plot("heads", title, svg, caption, _KEY)


def _unit_note(sites: Sequence[SiteWidth]) -> str:
    shared = any(site.groups for site in sites)
    per = {site.heads_per_unit for site in sites}
    if shared:
        return " Adjacent heads share one key/value head; gaps separate the groups."
    if len(per) == 1 and (heads := next(iter(per))) is not None and heads > 1:
        return f" A group is one key/value head with its {heads} query heads."
    return ""


def _starts(site: SiteWidth) -> list[float]:
    """The left edge of each unit's cell."""
    if not site.groups:
        return [float(unit) for unit in range(site.units)]
    edges = set(accumulate(site.groups))
    gaps = accumulate(_GAP if unit in edges else 0.0 for unit in range(site.units))
    return [unit + gap for unit, gap in enumerate(gaps)]


def _end(site: SiteWidth) -> float:
    return max(_starts(site), default=0.0) + 1


def _cells(layer: Layer, *, kept: bool) -> Iterator[Box]:
    site, row = layer.site, layer.row
    stay = set(range(site.kept) if site.kept_units is None else site.kept_units)
    for unit, left in enumerate(_starts(site)):
        if (unit in stay) is kept:
            yield left + 0.1, row - 0.36, left + 0.9, row + 0.36


def _channels(layers: Sequence[Layer]) -> Plot | None:
    if not layers:
        return None
    sites = [layer.site for layer in layers]
    kept, units = sum(site.kept for site in sites), sum(site.units for site in sites)
    title = "MLP channels kept in each layer"

    def paint(axes: Axes) -> None:
        whole = [
            (0.0, layer.row - 0.36, float(layer.site.units), layer.row + 0.36) for layer in layers
        ]
        stay = [
            (0.0, layer.row - 0.36, float(layer.site.kept), layer.row + 0.36) for layer in layers
        ]
        boxes(axes, whole, facecolor="none", edgecolor=DENSE, linewidth=0.8)
        boxes(axes, stay, facecolor=PRUNED, edgecolor=PRUNED, linewidth=0.8)
        widest = max(site.units for site in sites)
        for layer in layers:
            axes.text(
                widest * 1.16, layer.row, str(layer.site.kept), ha="right", va="center", color=INK
            )
        label_layers(axes, layers)
        axes.set_xlim(0, widest * 1.17)
        axes.set_xticks([])

    description = f"{kept} of {units} channels kept, {percent(kept / units)}. " + "; ".join(
        f"layer {layer.number}: {_of(layer.site)}" for layer in layers
    )
    caption = f"One row per layer. {kept} of {units} channels kept ({percent(kept / units)})."
    svg = draw("channels", 14 + ROW * len(layers), paint, title=title, description=description)
    return Plot("channels", title, svg, caption, _KEY)


@dataclass(frozen=True)
class Layer:
    site: SiteWidth
    number: int
    """Index of the layer in the model."""
    row: int
    """Row of the plot, from the top."""


def layers_of(plan: Sequence[SiteWidth], kind: str) -> tuple[Layer, ...]:
    """The sites of this kind: `attention` or `mlp`."""
    numbered = [(_number(width.site), width) for width in plan if width.site.endswith(f".{kind}")]
    return tuple(Layer(width, number, row) for row, (number, width) in enumerate(numbered))


def _number(site: str) -> int:
    """The layer's index in the name of a site.

    >>> _number("layers.12.mlp")
    12
    """
    middle = site.split(".")[-2]
    return int(middle) if middle.isdigit() else 0


def label_layers(axes: Axes, layers: Sequence[Layer], *, height: float = 0.5) -> None:
    """Label the rows with layer numbers; above 48 layers only every fifth."""
    step = 1 if len(layers) <= 48 else 5
    shown = [layer for layer in layers if layer.number % step == 0]
    axes.set_yticks([layer.row for layer in shown], [str(layer.number) for layer in shown])
    axes.set_ylim(len(layers) - 1 + height, -height)
    axes.spines["bottom"].set_visible(False)
