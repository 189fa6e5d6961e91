"""A report to its page: one file, verdict first, readable without a script and without a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timezone
from importlib import resources

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from numprune_export.report import machine_tables, quality_tables, speed_tables
from numprune_export.report.html.cards import cards
from numprune_export.report.html.latency_plots import latency_plots
from numprune_export.report.html.plan_plots import plan_plots, plan_table
from numprune_export.report.html.quality_plots import quality_plots
from numprune_export.report.html.score_plots import score_plots
from numprune_export.report.html.svg import Plot
from numprune_export.report.quantity import size
from numprune_export.report.schema import Report
from numprune_export.report.seal import Seal
from numprune_export.report.tabular import Tabular

TEMPLATES = "templates"


@dataclass(frozen=True)
class Section:
    """One heading with what stands under it."""

    key: str
    """Its id in the page."""
    title: str
    plots: tuple[Plot, ...] = ()
    tables: Mapping[str, Tabular] | None = None
    """By caption."""
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
        sections=[one for one in _sections(report) if one.plots or one.tables],
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
    quality = {
        score.replace("_", " "): one for score, one in quality_tables.quality(metrics).items()
    }
    yield Section(
        "quality",
        "Quality",
        quality_plots(metrics),
        quality,
        quality_tables.NOTE if quality else "",
    )
    yield Section(
        "speed",
        "Speed",
        latency_plots(report),
        _present(
            {
                "Speed-up": speed_tables.speedup(metrics),
                "Latency": speed_tables.latency(metrics),
                "Latency budget": speed_tables.budget(metrics),
            }
        ),
    )
    yield Section(
        "size",
        "Size and memory",
        tables=_present(
            {
                "Size": machine_tables.sides(metrics, "size"),
                "Memory": machine_tables.sides(metrics, "memory"),
            }
        ),
    )
    yield Section(
        "plan",
        "What stays",
        (*plan_plots(report.plan), *score_plots(report.plan, report.scores)),
        _present(
            {
                "Kept in each layer": plan_table(report.plan),
                "Allocation": quality_tables.allocation(metrics),
            }
        ),
    )
    parity = quality_tables.parity(metrics)
    yield Section("parity", "Parity with PyTorch", tables=_present({"Parity": parity}))
    yield Section(
        "making",
        "How it was made",
        tables=_present(
            {
                "Time per stage": machine_tables.times(metrics),
                "GPU before and after the benchmark": machine_tables.gpu(metrics),
            }
        ),
    )


def _present(tables: Mapping[str, Tabular | None]) -> dict[str, Tabular]:
    return {caption: one for caption, one in tables.items() if one is not None}


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
