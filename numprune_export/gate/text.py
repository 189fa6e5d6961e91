"""A verdict as plain text of at most 100 columns: what fails first, then what was judged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from numprune_export.gate.verdict import Finding, Verdict
from numprune_export.report.quantity import number

_HEADLINES = ("ratio", "quality", "limit")
_NAME, _VALUE, _SHORT = 46, 15, 8


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
    return "" if found is None else f"{100 * math.expm1(found.tolerated):.1f} %"


def _lines(verdict: Verdict, *, everything: bool) -> Iterator[str]:
    yield from _differences("not comparable:", [str(one) for one in verdict.refused])
    yield from _differences("compared all the same:", [str(one) for one in verdict.overruled])
    yield from _differences("note:", verdict.notes)
    listed = shown(verdict, everything=everything)
    if listed:
        yield _row("metric", "baseline", "report", "change", "allowed", "")
    for one in listed:
        values = _short(one, "baseline"), _short(one, "report")
        yield _row(one.name, *values, change_of(one), allowed_of(one), one.status)
        if one.detail and (one.failed or everything):
            yield f"    {one.detail}"
    yield verdict.summary


def _differences(title: str, said: Sequence[str]) -> Iterator[str]:
    if said:
        yield title
        yield from (f"  {one}" for one in said)


def _short(one: Finding, side: Literal["baseline", "report"]) -> str:
    """The value in a column: without its unit where that is a phrase."""
    value = one.baseline if side == "baseline" else one.report
    long = isinstance(value, float) and " " in one.unit
    return number(value) if long and isinstance(value, float) else one.said(side)


def _row(name: str, baseline: str, report: str, change: str, allowed: str, status: str) -> str:
    cells = f"{baseline:>{_VALUE}} {report:>{_VALUE}} {change:>{_SHORT}} {allowed:>{_SHORT}}"
    if len(name) > _NAME:
        return f"{name}\n{'':{_NAME}}{cells} {status}".rstrip()
    return f"{name:{_NAME}}{cells} {status}".rstrip()
