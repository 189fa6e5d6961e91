"""A verdict as JSON, for programs. Versioned."""

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
        "refused": [_difference(one) for one in verdict.refused],
        "overruled": [_difference(one) for one in verdict.overruled],
        "notes": list(verdict.notes),
        "findings": [_finding(one) for one in verdict.findings],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _difference(one: Difference) -> dict[str, str]:
    return {"side": one.side, "what": one.what, "baseline": one.baseline, "report": one.report}


def _finding(one: Finding) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": one.name,
        "kind": one.kind,
        "status": one.status,
        "failed": one.failed,
        "unit": one.unit,
        "baseline": _value(one.baseline),
        "report": _value(one.report),
    }
    if one.detail:
        found["detail"] = one.detail
    if one.change is not None:
        found |= {
            "worse_by": one.change.fraction(one.change.worse),
            "allowed": one.change.allowed,
            "noise": one.change.fraction(one.change.noise),
            "noise_assumed": list(one.change.assumed),
        }
    return found


def _value(value: str | float | None) -> str | float | None:
    """JSON has no NaN or infinity: they are written as words, as in report.json."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
