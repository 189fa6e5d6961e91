"""A verdict as plain text: what fails first, then what was judged, in a table of 100 columns; the last
line is the summary."""

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
    """The whole verdict; `everything`: a line for each metric, not only the telling ones."""
    return "\n".join(_lines(verdict, everything=everything)) + "\n"


def shown(verdict: Verdict, *, everything: bool) -> list[Finding]:
    """The findings worth a line: failures first, then improvements, speed-ups, quality and limits."""
    rest = [
        one
        for one in verdict.findings
        if not one.failed and (everything or one.status == "improved" or one.kind in _HEADLINES)
    ]
    return [*verdict.failures, *rest]


def change_of(finding: Finding) -> str:
    """How far the report is from the baseline: `-4.2 %`."""
    if isinstance(finding.baseline, str) or isinstance(finding.report, str):
        return ""
    if not finding.baseline or finding.report is None:
        return ""
    step = finding.report / finding.baseline - 1
    return f"{100 * step:+.1f} %" if math.isfinite(step) else ""


def allowed_of(finding: Finding) -> str:
    """How much worse would still pass: `3.1 %`."""
    found = finding.change
    return "" if found is None else f"{100 * found.allowed:.1f} %"


def _lines(verdict: Verdict, *, everything: bool) -> Iterator[str]:
    yield from _listed("not comparable:", [str(one) for one in verdict.refused])
    yield from _listed("compared all the same:", [str(one) for one in verdict.overruled])
    yield from _listed("note:", verdict.notes)
    findings = shown(verdict, everything=everything)
    if findings:
        yield _row("metric", "baseline", "report", "change", "allowed", "")
    for one in findings:
        before, now = (_cell(one, side) for side in SIDES)
        yield _row(one.name, before, now, change_of(one), allowed_of(one), one.status)
        if one.failed or everything:
            yield from _details(one)
    yield verdict.summary


def _listed(title: str, said: Sequence[str]) -> Iterator[str]:
    if said:
        yield title
    for one in said:
        yield from wrap(one, _WIDTH, initial_indent="  ", subsequent_indent="    ")


def _cell(one: Finding, side: Side) -> str:
    """The value in a column: without its unit where that is a phrase, and not at all where it is
    too long."""
    value = one.baseline if side == "baseline" else one.report
    long = isinstance(value, float) and " " in one.unit
    said = number(value) if long and isinstance(value, float) else one.said(side)
    return said if len(said) <= _VALUE else "…"


def _details(one: Finding) -> Iterator[str]:
    said = [f"{side}: {one.said(side)}" for side in SIDES if _cell(one, side) == "…"]
    for line in [one.detail, *said]:
        yield from wrap(line, _WIDTH, initial_indent="    ", subsequent_indent="      ")


def _row(name: str, baseline: str, report: str, change: str, allowed: str, status: str) -> str:
    cells = f"{baseline:>{_VALUE}} {report:>{_VALUE}} {change:>{_SHORT}} {allowed:>{_SHORT}}"
    if len(name) > _NAME:
        return f"{name}\n{'':{_NAME}}{cells} {status}".rstrip()
    return f"{name:{_NAME}}{cells} {status}".rstrip()
