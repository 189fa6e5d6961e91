"""One metric of the baseline against the report's: there, a number, measured alike, and no worse."""

from __future__ import annotations

import math
from collections.abc import Iterator

from numprune_export.gate.limits import Gate
from numprune_export.gate.noise import change
from numprune_export.gate.rules import Rule, rule_of
from numprune_export.gate.verdict import Finding, Mode, Status
from numprune_export.report.schema import Measurement

_VOLATILE = ("worst", "tolerance", "reasons", "table")
"""Conditions that say what came out and not what was done."""
_OF_MACHINE = ("runtime", "gpu", "driver", "driver_cuda")


def judge_metric(
    name: str, before: Measurement, now: Measurement, gate: Gate, mode: Mode
) -> Finding:
    """The first of these that is so: no number, measured differently, not compared, worse, fine."""
    rule = rule_of(name, before, gate)

    def found(status: Status, detail: str) -> Finding:
        return Finding(name, rule.kind, status, detail, before.unit, before.value, now.value)

    for where, one in (("the baseline", before), ("the report", now)):
        problem = _invalid(one)
        if problem:
            return found("invalid", f"{problem} in {where}")
    other = "; ".join(_measured_differently(rule, before, now, mode))
    if other:
        return found("different", other)
    reason = _only_told(rule, mode)
    return _compared(name, rule, before, now, gate) if reason is None else found("told", reason)


def _only_told(rule: Rule, mode: Mode) -> str | None:
    """Why a value is not compared; None: it is."""
    if rule.kind == "told":
        return ""
    if mode.other_machine and rule.kind in ("time", "memory"):
        return "of another machine"
    return "the machine was busy" if mode.busy and rule.kind == "time" else None


def _compared(name: str, rule: Rule, before: Measurement, now: Measurement, gate: Gate) -> Finding:
    found = change(rule, before, now)
    details = []
    if found.assumed:
        noise = f"{100 * found.fraction(found.noise):.0f} %"
        details.append(f"noise assumed, {noise} in all: {', '.join(found.assumed)}")
    if rule.better == "same" and found.regressed:
        details.append("any change counts")
    status: Status = "ok"
    if found.regressed:
        status = "regressed"
    elif rule.kind == "ratio" and gate.noise is not None and found.allowed > gate.noise:
        status = "broken"
        details.append(f"too noisy: more than {100 * gate.noise:g} % would pass")
    elif found.improved and rule.better != "same":
        status = "improved"
    detail = "; ".join(details)
    return Finding(name, rule.kind, status, detail, before.unit, before.value, now.value, found)


def _invalid(one: Measurement) -> str:
    """What of a measurement is no number; empty: all is well."""
    if not math.isfinite(one.value):
        return f"the value is {one.value}"
    ends = [each for each in (one.low, one.high) if each is not None]
    if not all(math.isfinite(each) for each in ends):
        return "the interval is not finite"
    if len(ends) == 1 or (len(ends) == 2 and ends[0] > ends[1]):
        return "the interval is none"
    return "" if one.samples >= 1 else f"it is of {one.samples} samples"


def _measured_differently(
    rule: Rule, before: Measurement, now: Measurement, mode: Mode
) -> Iterator[str]:
    if before.unit != now.unit:
        yield f"unit `{before.unit}` in the baseline, `{now.unit}` in the report"
    free = {*_VOLATILE, *(_OF_MACHINE if mode.overrules else ())}
    for key in sorted({*before.conditions, *now.conditions} - free):
        first, second = before.conditions.get(key), now.conditions.get(key)
        if first != second:
            yield f"{key} `{first}` in the baseline, `{second}` in the report"
    if rule.kind in ("ratio", "time", "quality") and before.samples != now.samples:
        yield f"{before.samples} samples in the baseline, {now.samples} in the report"
    if before.low is not None and now.low is None:
        yield "an interval in the baseline, none in the report"
