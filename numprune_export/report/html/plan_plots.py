"""Which heads and how many channels stay in each layer."""

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
"""Between groups of heads that share a key/value head, in heads."""

_KEY = (("kept", "kept"), ("removed", "removed"))


def plan_plots(plan: Sequence[SiteWidth]) -> tuple[Plot, ...]:
    """A grid of heads and bars of channels, where the plan has such sites."""
    found = (_heads(layers(plan, "attention")), _channels(layers(plan, "mlp")))
    return tuple(one for one in found if one is not None)


def plan_table(plan: Sequence[SiteWidth]) -> Tabular | None:
    """What both pictures show, layer by layer."""
    heads = {one.number: one.site for one in layers(plan, "attention")}
    channels = {one.number: one.site for one in layers(plan, "mlp")}
    rows = [
        (str(number), *_heads_told(heads.get(number)), _of(channels.get(number)))
        for number in sorted({*heads, *channels})
    ]
    unit = attention_unit(plan)
    header = ("layer", f"{unit} kept", f"{unit} removed", "MLP channels kept")
    return Tabular(header, tuple(rows)) if rows else None


def _heads_told(site: SiteWidth | None) -> tuple[str, str]:
    if site is None:
        return ABSENT, ABSENT
    if site.kept_units is None:
        return _of(site), ABSENT
    gone = [str(unit) for unit in range(site.units) if unit not in set(site.kept_units)]
    return _of(site), ", ".join(gone) or "none"


def _of(site: SiteWidth | None) -> str:
    return ABSENT if site is None else f"{site.kept} of {site.units}"


def _heads(found: Sequence[Layer]) -> Plot | None:
    if not found:
        return None
    sites = [one.site for one in found]
    unit, kept, units = (
        attention_unit(sites),
        sum(s.kept for s in sites),
        sum(s.units for s in sites),
    )
    title = f"Attention {unit.removeprefix('attention ')} kept in each layer"
    known = all(site.kept_units is not None for site in sites)
    wide = max(_end(site) for site in sites)

    def paint(axes: Axes) -> None:
        stay = [box for one in found for box in _cells(one, kept=True)]
        gone = [box for one in found for box in _cells(one, kept=False)]
        boxes(axes, gone, facecolor="none", edgecolor=DENSE, linewidth=0.8)
        boxes(axes, stay, facecolor=PRUNED, edgecolor=PRUNED, linewidth=0.8)
        label_layers(axes, found)
        axes.set_xlim(-0.2, wide + 0.2)
        axes.set_xticks([])

    description = f"{kept} of {units} {unit} stay, {percent(kept / units)}. " + "; ".join(
        f"layer {one.number}: {_of(one.site)}" for one in found
    )
    caption = f"One row per layer. {kept} of {units} {unit} stay ({percent(kept / units)})."
    caption += _unit_told(sites)
    if not known:
        caption += " This report says how many stay, not which: they are drawn to the left."
    svg = draw("heads", 14 + ROW * len(found), paint, title=title, description=description)
    return Plot("heads", title, svg, caption, _KEY)


def _unit_told(sites: Sequence[SiteWidth]) -> str:
    shared = any(site.groups for site in sites)
    per = {site.heads_per_unit for site in sites}
    if shared:
        return " Heads side by side share one key/value head; gaps part the groups."
    if len(per) == 1 and (heads := next(iter(per))) is not None and heads > 1:
        return f" A group is one key/value head with its {heads} query heads."
    return ""


def _starts(site: SiteWidth) -> list[float]:
    """Where each unit's cell begins."""
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


def _channels(found: Sequence[Layer]) -> Plot | None:
    if not found:
        return None
    sites = [one.site for one in found]
    kept, units = sum(site.kept for site in sites), sum(site.units for site in sites)
    title = "MLP channels kept in each layer"

    def paint(axes: Axes) -> None:
        whole = [(0.0, one.row - 0.36, float(one.site.units), one.row + 0.36) for one in found]
        stay = [(0.0, one.row - 0.36, float(one.site.kept), one.row + 0.36) for one in found]
        boxes(axes, whole, facecolor="none", edgecolor=DENSE, linewidth=0.8)
        boxes(axes, stay, facecolor=PRUNED, edgecolor=PRUNED, linewidth=0.8)
        widest = max(site.units for site in sites)
        for one in found:
            axes.text(
                widest * 1.16, one.row, str(one.site.kept), ha="right", va="center", color=INK
            )
        label_layers(axes, found)
        axes.set_xlim(0, widest * 1.17)
        axes.set_xticks([])

    description = f"{kept} of {units} channels stay, {percent(kept / units)}. " + "; ".join(
        f"layer {one.number}: {_of(one.site)}" for one in found
    )
    caption = f"One row per layer. {kept} of {units} channels stay ({percent(kept / units)})."
    svg = draw("channels", 14 + ROW * len(found), paint, title=title, description=description)
    return Plot("channels", title, svg, caption, _KEY)


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
