"""Render a verdict as text: a table 100 columns wide, failures first, then the summary line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from textwrap import wrap

from numprune_export.gate.verdict import SIDES, Finding, Side, Verdict
from numprune_export.report.tables.format import number

_HEADLINES = ("ratio", "quality", "limit")
_WIDTH = 100
_NAME, _VALUE, _SHORT = 46, 12, 8


def render(verdict: Verdict, *, everything: bool = False) -> str:
    """Render the verdict; `everything`: list all metrics, not only those that `shown` selects."""
    return "\n".join(_lines(verdict, everything=everything)) + "\n"


def shown(verdict: Verdict, *, everything: bool) -> list[Finding]:
    """The findings to list: failures first, then improvements, speed-ups, quality and limits."""
    rest = [
        finding
        for finding in verdict.findings
        if not finding.failed
        and (everything or finding.status == "improved" or finding.kind in _HEADLINES)
    ]
    return [*verdict.failures, *rest]


def change_of(finding: Finding) -> str:
    """Relative change from the baseline: `-4.2 %`."""
    if isinstance(finding.baseline, str) or isinstance(finding.report, str):
        return ""
    if not finding.baseline or finding.report is None:
        return ""
    step = finding.report / finding.baseline - 1
    return f"{100 * step:+.1f} %" if math.isfinite(step) else ""


def allowed_of(finding: Finding) -> str:
    """Largest regression that passes: `3.1 %`."""
    change = finding.change
    return "" if change is None else f"{100 * change.allowed:.1f} %"


def _lines(verdict: Verdict, *, everything: bool) -> Iterator[str]:
    yield from _listed("not comparable:", [str(difference) for difference in verdict.refused])
    yield from _listed("compared anyway:", [str(difference) for difference in verdict.overruled])
    yield from _listed("note:", verdict.notes)
    findings = shown(verdict, everything=everything)
    if findings:
        yield _row("metric", "baseline", "report", "change", "allowed", "")
    for finding in findings:
        before, now = (_cell(finding, side) for side in SIDES)
        yield _row(
            finding.name, before, now, change_of(finding), allowed_of(finding), finding.status
        )
        if finding.failed or everything:
            yield from _details(finding)
    yield verdict.summary


def _listed(title: str, items: Sequence[str]) -> Iterator[str]:
    if items:
        yield title
    for item in items:
        yield from wrap(item, _WIDTH, initial_indent="  ", subsequent_indent="    ")


def _cell(finding: Finding, side: Side) -> str:
    """The value for a column: without a unit of several words, and `…` if too long."""
    value = finding.baseline if side == "baseline" else finding.report
    long = isinstance(value, float) and " " in finding.unit
    text = number(value) if long and isinstance(value, float) else finding.formatted(side)
    return text if len(text) <= _VALUE else "…"


def _details(finding: Finding) -> Iterator[str]:
    values = [f"{side}: {finding.formatted(side)}" for side in SIDES if _cell(finding, side) == "…"]
    for line in [finding.detail, *values]:
        yield from wrap(line, _WIDTH, initial_indent="    ", subsequent_indent="      ")


def _row(name: str, baseline: str, report: str, change: str, allowed: str, status: str) -> str:
    cells = f"{baseline:>{_VALUE}} {report:>{_VALUE}} {change:>{_SHORT}} {allowed:>{_SHORT}}"
    if len(name) > _NAME:
        return f"{name}\n{'':{_NAME}}{cells} {status}".rstrip()
    return f"{name:{_NAME}}{cells} {status}".rstrip()
