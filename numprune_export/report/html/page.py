"""A report to its page: one file, verdict first, readable without a script and without a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timezone
from importlib import resources

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
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
from numprune_export.report.tables.format import size
from numprune_export.report.tables.table import Measurements, Tabular
from numprune_export.report.verdict import score_name, targets

TEMPLATES = "templates"


LONG = 12
"""Rows; a longer table is folded, so that a page of many shapes or layers can be looked over."""


@dataclass(frozen=True)
class Captioned:
    """A table under its name."""

    caption: str
    table: Tabular

    @property
    def folded(self) -> bool:
        return len(self.table.rows) > LONG


@dataclass(frozen=True)
class Section:
    """One heading with what stands under it, in order, side by side where there is room."""

    key: str
    """Its id in the page."""
    title: str
    blocks: tuple[Plot | Captioned, ...]
    note: str = ""


def render(report: Report, *, seal: Seal = "whole") -> str:
    """The page. The same report gives the same text.

    Args:
        seal: Whether the file that the report was read from is as it was written.
    """
    templates = Environment(
        loader=PackageLoader("numprune_export.report.html", TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = templates.get_template("page.html.j2").render(
        report=report,
        made=f"{report.created.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC",
        style=Markup(_style()),
        edited=seal == "edited",
        cards=cards(report),
        sections=[one for one in _sections(report) if one.blocks],
        lacks=tuple(_lacks(report)),
        recipe=yaml.safe_dump(report.recipe, sort_keys=False, allow_unicode=True),
        size=size,
    )
    return page.rstrip() + "\n"


def _style() -> str:
    folder = resources.files("numprune_export.report.html") / TEMPLATES
    return (folder / "style.css").read_text(encoding="utf-8")


def _sections(report: Report) -> Iterator[Section]:
    metrics = report.metrics
    yield _quality(metrics)
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
    yield Section("plan", "What stays", (*pictures, *_tables(plan)))
    parity = {"Exported models": quality_tables.parity(metrics)}
    yield Section("parity", "Parity with PyTorch", _tables(parity))
    making = {
        "Time per stage": machine_tables.times(metrics),
        "GPU before and after the benchmark": machine_tables.gpu(metrics),
    }
    yield Section("making", "How it was made", _tables(making))


def _quality(metrics: Measurements) -> Section:
    """Each score's picture before its table."""
    plots = quality_plots(metrics)
    blocks: list[Plot | Captioned] = []
    for score, table in quality_tables.quality(metrics).items():
        blocks += [one for one in plots if one.name == plot_name(score)]
        name = score_name(score)
        blocks.append(Captioned(f"{name[0].upper()}{name[1:]}, model by model", table))
    return Section("quality", "Quality", tuple(blocks), quality_tables.NOTE)


def _tables(tables: Mapping[str, Tabular | None]) -> tuple[Captioned, ...]:
    return tuple(Captioned(caption, one) for caption, one in tables.items() if one is not None)


def _lacks(report: Report) -> Iterator[str]:
    """What newer reports hold and this one does not."""
    if report.plan and all(one.kept_units is None for one in report.plan):
        yield "which heads stay, only how many"
    if report.plan and not report.scores:
        yield "how the scores of units lie"
    if any(name.startswith("latency.") for name in report.metrics) and not report.latency_samples:
        yield "the time of every round, only percentiles"
    if report.dense_sha256 is None:
        yield "a hash of the dense model"


def speed_plots(report: Report) -> tuple[Plot, ...]:
    found = []
    for target in targets(report.metrics, "latency"):
        rows = timed_rows(report.metrics, target)
        found += [speedup_plot(target, rows, report.metrics), latency_plot(target, rows, report)]
    return tuple(one for one in found if one is not None)
