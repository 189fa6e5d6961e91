"""Render Matplotlib figures as inline SVG with the page's colours, descriptions and unique ids."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from numprune_export.report.html.theme import INK, LINE, MUTED, ROLES
from numprune_export.report.tables.table import Tabular

WIDTH = 340
"""Width of a plot in CSS pixels: that of a phone; wider pages place several plots side by side."""

_POINTS_PER_INCH = 72

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "text.parse_math": False,  # a `$` in a name is literal
    "font.size": 11,
    "axes.labelsize": 11,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "figure.facecolor": "none",
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.5,
}


@dataclass(frozen=True)
class Plot:
    """A plot with its caption, legend and data."""

    name: str
    """A valid id, unique in the page."""
    title: str
    svg: Markup
    caption: str
    key: tuple[tuple[str, str], ...] = ()
    """Legend: CSS class of each mark in style.css, and its meaning."""
    table: Tabular | None = None
    """The plotted numbers, if no other table of the page holds them."""


def draw(
    name: str, height: float, paint: Callable[[Axes], None], *, title: str, description: str
) -> Markup:
    """Draw one plot as inline SVG.

    Args:
        name: Prefix of its ids.
        height: Height in CSS pixels; the width is `WIDTH`.
        paint: Draws into the axes.
        title: Accessible name.
        description: Accessible description.
    """
    text = StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # ignore the user's settings: output must be reproducible
        matplotlib.rcParams.update({**_STYLE, "svg.hashsalt": f"plot-{name}"})
        # The browser renders glyphs that Matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure((WIDTH / _POINTS_PER_INCH, height / _POINTS_PER_INCH), layout="constrained")
        canvas: Any = FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.tick_params(length=0)
        axes.set_axisbelow(True)
        paint(axes)
        canvas.print_svg(text, metadata={"Date": None, "Creator": None})
    return _inline(text.getvalue(), name, title, description)


def _inline(text: str, name: str, title: str, description: str) -> Markup:
    drawing = ElementTree.fromstring(text)
    wanted = set(_referenced(drawing))
    root = ElementTree.Element(
        "svg",
        {
            "viewBox": drawing.attrib["viewBox"],
            "width": str(WIDTH),
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-description",
        },
    )
    for tag, key, content in (("title", "title", title), ("desc", "description", description)):
        ElementTree.SubElement(root, tag, {"id": f"{name}-{key}"}).text = content
    for child in drawing:
        root.extend(_lean(child, name, wanted))
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _lean(
    element: ElementTree.Element, name: str, wanted: set[str]
) -> Iterator[ElementTree.Element]:
    """Copy an element without redundant parts; yields no, one or several elements."""
    tag = _bare(element.tag)
    if tag in ("metadata", "style"):  # Matplotlib's style would affect the whole page
        return
    lean = ElementTree.Element(tag, dict(_attributes(element.attrib, name, wanted)))
    for child in element:
        lean.extend(_lean(child, name, wanted))
    lean.text = (element.text or "").strip() or None
    if tag in ("g", "defs") and not len(lean):
        return
    if tag == "g" and not lean.attrib:
        yield from lean
    else:
        yield lean


def _bare(name: str) -> str:
    """A tag or attribute without its namespace, which HTML implies for SVG."""
    return name.rpartition("}")[2]


def _referenced(root: ElementTree.Element) -> Iterator[str]:
    for element in root.iter():
        for value in element.attrib.values():
            yield from re.findall(r"url\(#([^)]+)\)", value)
            if value.startswith("#"):
                yield value[1:]


def _attributes(
    attributes: Mapping[str, str], name: str, wanted: set[str]
) -> Iterator[tuple[str, str]]:
    for key, value in attributes.items():
        match _bare(key):
            case "id":
                if value in wanted:
                    yield "id", f"{name}-{value}"
            case "href":
                yield "href", value.replace("#", f"#{name}-", 1)
            case "style":
                yield "style", _themed(value)
            case "transform":
                if not value.startswith("rotate(-0 "):
                    yield "transform", value
            case other:
                prefixed = value.replace("url(#", f"url(#{name}-")
                yield other, re.sub(r"(\d\.\d\d)\d+", r"\1", prefixed)


def _themed(style: str) -> str:
    """Replace colours by the page's CSS variables; drop the font family, keep size and weight."""
    for stand_in, role in ROLES.items():
        style = style.replace(stand_in, role)
    style = re.sub(r"font: ((?:\w+ )*?)(\d+(?:\.\d+)?px) [^;]+", _weight_and_size, style)
    return re.sub(r"font-family: [^;]+;? ?", "", style)


def _weight_and_size(font: re.Match[str]) -> str:
    weight, size = font.groups()
    return f"font-size: {size}" + (f"; font-weight: {weight.strip()}" if weight else "")
