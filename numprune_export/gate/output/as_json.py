"""Render a verdict as versioned JSON."""

from __future__ import annotations

import json
import math
from typing import Any

from numprune_export.gate.comparable import Difference
from numprune_export.gate.verdict import Finding, Verdict

FORMAT_VERSION = 1


def render(verdict: Verdict) -> str:
    content = {
        "format_version": FORMAT_VERSION,
        "passed": verdict.passed,
        "comparable": not verdict.refused,
        "summary": verdict.summary,
        "refused": [_difference(difference) for difference in verdict.refused],
        "overruled": [_difference(difference) for difference in verdict.overruled],
        "notes": list(verdict.notes),
        "findings": [_finding(finding) for finding in verdict.findings],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _difference(difference: Difference) -> dict[str, str]:
    return {
        "side": difference.side,
        "what": difference.what,
        "baseline": difference.baseline,
        "report": difference.report,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": finding.name,
        "kind": finding.kind,
        "status": finding.status,
        "failed": finding.failed,
        "unit": finding.unit,
        "baseline": _value(finding.baseline),
        "report": _value(finding.report),
    }
    if finding.detail:
        fields["detail"] = finding.detail
    if finding.change is not None:
        fields |= {
            "worse_by": finding.change.fraction(finding.change.worse),
            "allowed": finding.change.allowed,
            "noise": finding.change.fraction(finding.change.noise),
            "noise_assumed": list(finding.change.assumed),
        }
    return fields


def _value(value: str | float | None) -> str | float | None:
    """NaN and infinity as the strings `NaN`, `Infinity`, `-Infinity`, as in report.json."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
