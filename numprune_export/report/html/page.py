"""Render a report as HTML: one file, verdict first, without scripts and network access."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timezone
from functools import cache
from importlib import resources

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from numprune_export.report.html.cards import cards
from numprune_export.report.html.latency_plot import latency_plot
from numprune_export.report.html.plan_plots import plan_plots, plan_table
from numprune_export.report.html.quality_plots import plot_name, quality_plots
from numprune_export.report.html.score_plots import score_plots
from numprune_export.report.html.speedup_plot import speedup_plot
from numprune_export.report.html.svg import Plot
from numprune_export.report.html.timed_rows import timed_rows
from numprune_export.report.schema import Report
from numprune_export.report.seal import Seal
from numprune_export.report.tables import machine as machine_tables
from numprune_export.report.tables import quality as quality_tables
from numprune_export.report.tables import speed as speed_tables
from numprune_export.report.tables import texts as text_tables
from numprune_export.report.tables.format import size
from numprune_export.report.tables.table import Tabular
from numprune_export.report.text_sources import of_calibration
from numprune_export.report.verdict import is_of_source, score_name, targets

TEMPLATES = "templates"


LONG = 12
"""Tables with more rows are folded."""


@dataclass(frozen=True)
class Captioned:
    """A table with its caption."""

    caption: str
    table: Tabular

    collapsed: bool = False
    """Folded however short it is."""

    @property
    def folded(self) -> bool:
        return self.collapsed or len(self.table.rows) > LONG


@dataclass(frozen=True)
class Section:
    """A heading with its plots and tables, in order."""

    key: str
    """The element's id."""
    title: str
    blocks: tuple[Plot | Captioned, ...]
    note: str = ""


def render(report: Report, *, seal: Seal = "whole") -> str:
    """Render the page; the same report always gives the same text.

    Args:
        report: The report.
        seal: State of the seal of the file it was read from.
    """
    page = _template().render(
        report=report,
        created=f"{report.created.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC",
        style=Markup(_style()),
        edited=seal == "edited",
        cards=cards(report),
        sections=[section for section in _sections(report) if section.blocks],
        lacks=tuple(_lacks(report)),
        recipe=yaml.safe_dump(report.recipe, sort_keys=False, allow_unicode=True),
        size=size,
    )
    return page.rstrip() + "\n"


@cache
def _template() -> Template:
    templates = Environment(
        loader=PackageLoader("numprune_export.report.html", TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("page.html.j2")


def _style() -> str:
    folder = resources.files("numprune_export.report.html") / TEMPLATES
    return (folder / "style.css").read_text(encoding="utf-8")


def _sections(report: Report) -> Iterator[Section]:
    metrics = report.metrics
    yield _quality(report)
    yield Section(
        "speed",
        "Speed",
        (
            *speed_plots(report),
            *_tables(
                {
                    "Speed-up": speed_tables.speedup(metrics),
                    "Latency": speed_tables.latency(metrics),
                    "Latency budget": speed_tables.budget(metrics),
                }
            ),
        ),
    )
    sizes = {
        "Size": machine_tables.sides(metrics, "size"),
        "Memory": machine_tables.sides(metrics, "memory"),
    }
    yield Section("size", "Size and memory", _tables(sizes))
    plan = {
        "Kept in each layer": plan_table(report.plan),
        "Allocation": quality_tables.allocation(metrics),
    }
    pictures = (*plan_plots(report.plan), *score_plots(report.plan, report.scores))
    yield Section("plan", "Kept units", (*pictures, *_tables(plan)))
    parity = {"Exported models": quality_tables.parity(metrics)}
    yield Section("parity", "Parity with PyTorch", _tables(parity))
    stages = machine_tables.stages(report)
    per_stage = [] if stages is None else [Captioned("Time and memory per stage", stages, True)]
    sources = {"Text sources": text_tables.texts(report)}
    gpu = {"GPU before and after the benchmark": machine_tables.gpu(metrics)}
    yield Section("making", "How it was made", (*_tables(sources), *per_stage, *_tables(gpu)))


def _quality(report: Report) -> Section:
    """For each score, its plot followed by its table."""
    plots = quality_plots(report.metrics)
    blocks: list[Plot | Captioned] = []
    for score, table in quality_tables.quality(report.metrics, of_calibration(report)).items():
        blocks += [plot for plot in plots if plot.name == plot_name(score)]
        name = "perplexity by text source" if is_of_source(score) else score_name(score)
        blocks.append(Captioned(f"{name[0].upper()}{name[1:]}, model by model", table))
    return Section("quality", "Quality", tuple(blocks), quality_tables.NOTE)


def _tables(tables: Mapping[str, Tabular | None]) -> tuple[Captioned, ...]:
    return tuple(
        Captioned(caption, table) for caption, table in tables.items() if table is not None
    )


def _lacks(report: Report) -> Iterator[str]:
    """Data that newer reports hold but this one lacks."""
    if report.plan and all(width.kept_units is None for width in report.plan):
        yield "which heads are kept, only their number"
    if report.plan and not report.scores:
        yield "the scores of units"
    if any(name.startswith("latency.") for name in report.metrics) and not report.latency_samples:
        yield "the time of every round, only percentiles"
    if report.dense_sha256 is None:
        yield "a hash of the dense model"


def speed_plots(report: Report) -> tuple[Plot, ...]:
    plots = []
    for target in targets(report.metrics, "latency"):
        rows = timed_rows(report.metrics, target)
        plots += [speedup_plot(target, rows, report.metrics), latency_plot(target, rows, report)]
    return tuple(plot for plot in plots if plot is not None)
