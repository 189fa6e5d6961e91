"""The limits that a recipe sets: a value beyond one is broken, a limit on nothing too."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase

from numprune_export.gate.evidence import Evidence
from numprune_export.gate.limits import Gate
from numprune_export.gate.verdict import Finding
from numprune_export.report.schema import Measurement

Skip = Callable[[str], str | None]


def bounds(report: Evidence, gate: Gate, skip: Skip) -> Iterator[Finding]:
    """One finding per limit and metric that it names.

    Args:
        skip: Why a name is not judged, or None.
    """
    for pattern, least in gate.min.items():
        for name, one in _named(report, pattern):
            yield _limit(name, one, f">= {least:g}", lambda value, at=least: value >= at, skip)  # type: ignore[misc]
    for pattern, greatest in gate.max.items():
        for name, one in _named(report, pattern):
            yield _limit(
                name, one, f"<= {greatest:g}", lambda value, at=greatest: value <= at, skip
            )  # type: ignore[misc]
    for pattern in gate.require:
        for name, one in _named(report, pattern):
            yield _limit(name, one, "is there", lambda value: True, skip)


def _named(report: Evidence, pattern: str) -> list[tuple[str, Measurement | None]]:
    """The metrics of this pattern; the pattern itself, with nothing, where there is none."""
    found = [(name, one) for name, one in report.metrics.items() if fnmatchcase(name, pattern)]
    return [*found] or [(pattern, None)]


def _limit(
    name: str, one: Measurement | None, limit: str, holds: Callable[[float], bool], skip: Skip
) -> Finding:
    title, reason = f"{name} {limit}", skip(name)
    if reason is not None:
        return Finding(title, "limit", "skipped", reason, baseline=limit)
    if one is None:
        return Finding(title, "limit", "missing", "the report has no such metric", baseline=limit)
    if not math.isfinite(one.value):
        detail = f"the value is {one.value}"
        return Finding(title, "limit", "invalid", detail, one.unit, limit, one.value)
    status = "ok" if holds(one.value) else "broken"
    return Finding(title, "limit", status, "", one.unit, limit, one.value)  # type: ignore[arg-type]
