"""Compare one metric with the baseline: valid, equal conditions, and not worse."""

from __future__ import annotations

import math
from collections.abc import Iterator

from numprune_export.gate.limits import Gate
from numprune_export.gate.noise import change
from numprune_export.gate.rules import Rule, rule_of
from numprune_export.gate.verdict import Finding, Mode, Status
from numprune_export.report.schema import Measurement

_VOLATILE = ("worst", "tolerance", "reasons", "table")
"""Conditions that are results of a measurement and not its settings."""
_OF_MACHINE = ("runtime", "gpu", "driver", "driver_cuda")


def judge_metric(
    name: str, before: Measurement, now: Measurement, gate: Gate, mode: Mode
) -> Finding:
    """The finding for one metric: `invalid`, `different`, `told` (not compared), or the
    comparison's result, in this order of precedence."""
    rule = rule_of(name, before, gate)

    def finding(status: Status, detail: str) -> Finding:
        return Finding(name, rule.kind, status, detail, before.unit, before.value, now.value)

    for where, metric in (("the baseline", before), ("the report", now)):
        problem = _invalid(metric)
        if problem:
            return finding("invalid", f"{problem} in {where}")
    other = "; ".join(_measured_differently(rule, before, now, mode))
    if other:
        return finding("different", other)
    reason = _only_told(rule, mode)
    return _compared(name, rule, before, now, gate) if reason is None else finding("told", reason)


def _only_told(rule: Rule, mode: Mode) -> str | None:
    """The reason why a value is not compared (may be empty); None if it is compared."""
    if rule.kind == "told":
        return ""
    if mode.other_machine and rule.kind in ("time", "memory"):
        return "measured on another machine"
    return "the machine was busy" if mode.busy and rule.kind == "time" else None


def _compared(name: str, rule: Rule, before: Measurement, now: Measurement, gate: Gate) -> Finding:
    delta = change(rule, before, now)
    details = []
    if delta.assumed:
        noise = f"{100 * delta.fraction(delta.noise):.0f} %"
        details.append(f"noise assumed, {noise} in total: {', '.join(delta.assumed)}")
    if rule.better == "same" and delta.regressed:
        details.append("any change counts")
    status: Status = "ok"
    if delta.regressed:
        status = "regressed"
    elif rule.kind == "ratio" and gate.noise is not None and delta.allowed > gate.noise:
        status = "broken"
        details.append(f"too noisy: more than {100 * gate.noise:g} % would pass")
    elif delta.improved and rule.better != "same":
        status = "improved"
    detail = "; ".join(details)
    return Finding(name, rule.kind, status, detail, before.unit, before.value, now.value, delta)


def _invalid(metric: Measurement) -> str:
    """The problem with a measurement's numbers; empty if they are valid."""
    if not math.isfinite(metric.value):
        return f"the value is {metric.value}"
    bounds = [bound for bound in (metric.low, metric.high) if bound is not None]
    if not all(math.isfinite(bound) for bound in bounds):
        return "the interval is not finite"
    if len(bounds) == 1 or (len(bounds) == 2 and bounds[0] > bounds[1]):
        return "the interval is invalid"
    return "" if metric.samples >= 1 else f"it has {metric.samples} samples"


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
