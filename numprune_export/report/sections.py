"""Markdown sections of measurements; empty text if nothing was measured."""

from numprune_export.report.schema import Report
from numprune_export.report.tables import machine as machine_tables
from numprune_export.report.tables import quality as quality_tables
from numprune_export.report.tables import speed as speed_tables
from numprune_export.report.tables import texts as text_tables
from numprune_export.report.tables.table import Measurements, Tabular, table
from numprune_export.report.text_sources import of_calibration


def quality(report: Report) -> str:
    """One table per score, the primary score first."""
    by_score = quality_tables.quality(report.metrics, of_calibration(report))
    tables = [_markdown(tabular) for tabular in by_score.values()]
    return "\n\n".join([*tables, quality_tables.NOTE]) if tables else ""


def texts(report: Report) -> str:
    """Text sources, if there are several or streamed ones."""
    return _markdown(text_tables.texts(report))


def sides(metrics: Measurements, kind: str) -> str:
    """Dense next to pruned, for each quantity of this kind that has both."""
    return _markdown(machine_tables.sides(metrics, kind))


def parity(metrics: Measurements) -> str:
    """Error of each exported model, and PyTorch's own error in the same dtype on the same text."""
    return _markdown(quality_tables.parity(metrics))


def allocation(metrics: Measurements) -> str:
    """The attention weights that were tried, and the chosen one."""
    return _markdown(quality_tables.allocation(metrics))


def budget(metrics: Measurements) -> str:
    """Latency budgets: requested, predicted and measured milliseconds."""
    return _markdown(speed_tables.budget(metrics))


def speedup(metrics: Measurements) -> str:
    return _markdown(speed_tables.speedup(metrics))


def latency(metrics: Measurements) -> str:
    return _markdown(speed_tables.latency(metrics))


def gpu(metrics: Measurements) -> str:
    """The GPU's state before and after the benchmark."""
    return _markdown(machine_tables.gpu(metrics))


def stages(report: Report) -> str:
    """What each stage took, collapsed."""
    text = _markdown(machine_tables.stages(report))
    return f"<details><summary>per stage</summary>\n\n{text}\n\n</details>" if text else ""


def _markdown(tabular: Tabular | None) -> str:
    if tabular is None:
        return ""
    points = "\n".join(f"- {point}" for point in tabular.points)
    return "\n\n".join(
        part for part in (table(tabular.header, tabular.rows), points, tabular.note) if part
    )
