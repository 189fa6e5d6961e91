"""The parts of the page that are made of measurements; empty text where nothing was measured."""

from numprune_export.report.tables import machine as machine_tables
from numprune_export.report.tables import quality as quality_tables
from numprune_export.report.tables import speed as speed_tables
from numprune_export.report.tables.table import Measurements, Tabular, table


def quality(metrics: Measurements) -> str:
    """One table per score, the one that counts first."""
    found = quality_tables.quality(metrics)
    tables = [_markdown(one) for one in found.values()]
    return "\n\n".join([*tables, quality_tables.NOTE]) if tables else ""


def sides(metrics: Measurements, kind: str) -> str:
    """Dense beside pruned, for every quantity of this kind that has both."""
    return _markdown(machine_tables.sides(metrics, kind))


def parity(metrics: Measurements) -> str:
    """Each exported model beside what its dtype itself costs PyTorch on the same text."""
    return _markdown(quality_tables.parity(metrics))


def allocation(metrics: Measurements) -> str:
    """Weights of attention that were tried out, and the one that was taken."""
    return _markdown(quality_tables.allocation(metrics))


def budget(metrics: Measurements) -> str:
    """A budget in milliseconds: what was asked for, predicted, and measured afterwards."""
    return _markdown(speed_tables.budget(metrics))


def speedup(metrics: Measurements) -> str:
    return _markdown(speed_tables.speedup(metrics))


def latency(metrics: Measurements) -> str:
    return _markdown(speed_tables.latency(metrics))


def gpu(metrics: Measurements) -> str:
    """The GPU before and after the benchmark."""
    return _markdown(machine_tables.gpu(metrics))


def times(metrics: Measurements) -> str:
    return _markdown(machine_tables.times(metrics))


def _markdown(found: Tabular | None) -> str:
    if found is None:
        return ""
    points = "\n".join(f"- {one}" for one in found.points)
    return "\n\n".join(one for one in (table(found.header, found.rows), points, found.note) if one)
