"""The limits that a recipe sets: a value beyond one is broken, a limit on nothing too."""

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
    """Where a value must lie; by default anywhere."""

    least: float = -math.inf
    most: float = math.inf

    def __str__(self) -> str:
        if self.least > -math.inf:
            return f">= {self.least:g}"
        return f"<= {self.most:g}" if self.most < math.inf else "is there"


def bounds(report: Evidence, gate: Gate, skip: Skip) -> Iterator[Finding]:
    """One finding per limit and metric that it names.

    Args:
        skip: Why a name is not judged, or None.
    """
    for pattern, least in gate.min.items():
        for name, one in _named(report, pattern):
            yield _limit(name, one, Bounds(least=least), skip)
    for pattern, most in gate.max.items():
        for name, one in _named(report, pattern):
            yield _limit(name, one, Bounds(most=most), skip)
    for pattern in gate.require:
        for name, one in _named(report, pattern):
            yield _limit(name, one, Bounds(), skip)


def _named(report: Evidence, pattern: str) -> list[tuple[str, Measurement | None]]:
    """The metrics of this pattern; the pattern itself, with nothing, where there is none."""
    found = [(name, one) for name, one in report.metrics.items() if fnmatchcase(name, pattern)]
    return [*found] or [(pattern, None)]


def _limit(name: str, one: Measurement | None, asked: Bounds, skip: Skip) -> Finding:
    title, reason = f"{name} {asked}", skip(name)
    if reason is not None:
        return Finding(title, "limit", "skipped", reason, baseline=str(asked))
    if one is None:
        detail = "the report has no such metric"
        return Finding(title, "limit", "missing", detail, baseline=str(asked))
    status: Status = "ok" if asked.least <= one.value <= asked.most else "broken"
    detail = ""
    if not math.isfinite(one.value):
        status, detail = "invalid", f"the value is {one.value}"
    return Finding(title, "limit", status, detail, one.unit, str(asked), one.value)
