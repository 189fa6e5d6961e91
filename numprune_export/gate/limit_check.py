"""Check the limits of a recipe; a limit that matches no metric fails too."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from numprune_export.gate.evidence import Evidence
from numprune_export.gate.limits import Gate
from numprune_export.gate.verdict import Finding, Status
from numprune_export.report.schema import Measurement

Skip = Callable[[str], str | None]


@dataclass(frozen=True)
class Bounds:
    """The closed interval of allowed values; unbounded by default."""

    least: float = -math.inf
    most: float = math.inf

    def __str__(self) -> str:
        if self.least > -math.inf:
            return f">= {self.least:g}"
        return f"<= {self.most:g}" if self.most < math.inf else "is there"


def bounds(report: Evidence, gate: Gate, skip: Skip) -> Iterator[Finding]:
    """One finding for each limit and metric that matches it.

    Args:
        skip: Returns the reason why a metric name is skipped, or None.
    """
    for pattern, least in gate.min.items():
        for name, metric in _named(report, pattern):
            yield _limit(name, metric, Bounds(least=least), skip)
    for pattern, most in gate.max.items():
        for name, metric in _named(report, pattern):
            yield _limit(name, metric, Bounds(most=most), skip)
    for pattern in gate.require:
        for name, metric in _named(report, pattern):
            yield _limit(name, metric, Bounds(), skip)


def _named(report: Evidence, pattern: str) -> list[tuple[str, Measurement | None]]:
    """Metrics that match the pattern; if there are none, the pattern itself with None."""
    named = [
        (name, metric) for name, metric in report.metrics.items() if fnmatchcase(name, pattern)
    ]
    return [*named] or [(pattern, None)]


def _limit(name: str, metric: Measurement | None, allowed: Bounds, skip: Skip) -> Finding:
    title, reason = f"{name} {allowed}", skip(name)
    if reason is not None:
        return Finding(title, "limit", "skipped", reason, baseline=str(allowed))
    if metric is None:
        detail = "the report has no such metric"
        return Finding(title, "limit", "missing", detail, baseline=str(allowed))
    status: Status = "ok" if allowed.least <= metric.value <= allowed.most else "broken"
    detail = ""
    if not math.isfinite(metric.value):
        status, detail = "invalid", f"the value is {metric.value}"
    return Finding(title, "limit", status, detail, metric.unit, str(allowed), metric.value)
