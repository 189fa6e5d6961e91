"""A report against limits and a baseline: every metric gets a finding, and silence never passes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from numprune_export.gate import shapes
from numprune_export.gate.bounds import bounds
from numprune_export.gate.busy import LIMIT, taken_away
from numprune_export.gate.comparable import Difference, Side, differences
from numprune_export.gate.evidence import Evidence
from numprune_export.gate.limits import Gate
from numprune_export.gate.noise import change
from numprune_export.gate.rules import Rule, matches, rule_of
from numprune_export.gate.verdict import Finding, Status, Verdict
from numprune_export.report.schema import Measurement

_VOLATILE = ("worst", "tolerance", "reasons", "table")
"""Conditions that say what came out and not what was done."""
_BUSY = (
    "the machine was busy with other work (clock time over processor time, {}): times are not"
    " compared, ratios are"
)
_OF_MACHINE = ("runtime", "gpu", "driver", "driver_cuda")
_UNTIMED = ("latency.", "memory.", "time.", "gpu.", "budget.")


@dataclass(frozen=True)
class Mode:
    """What a caller lets pass."""

    other_machine: bool = False
    """Compare across machines and protocols, and judge only what carries over."""
    without_latency: bool = False
    """Judge size, shapes, quality and parity: all that needs no GPU and no quiet machine."""

    busy: bool = False
    """The machine had other work: times by the clock or by the processor say nothing."""

    @property
    def overrules(self) -> tuple[Side, ...]:
        if self.other_machine:
            return ("machine", "timing", "protocol")
        return ("machine", "timing") if self.without_latency else ()


STRICT = Mode()


def judge(report: Evidence, baseline: Evidence | None, gate: Gate, mode: Mode = STRICT) -> Verdict:
    """Every metric of the baseline, every limit, and what is new."""
    limited = tuple(bounds(report, gate, skip=lambda name: _unjudged(name, report, gate, mode)))
    if baseline is None:
        return Verdict(limited)
    found = differences(baseline, report)
    busy = [f"{which}: {share:.1f}x" for which, one in (("baseline", baseline), ("report", report))
            if (share := taken_away(one)) is not None and share > LIMIT]  # fmt: skip
    mode = replace(mode, busy=bool(busy))
    against = tuple(one for one in found if one.side != "note" and one.side not in mode.overrules)
    notes = tuple(str(one) for one in found if one.side == "note")
    if busy:
        notes = (_BUSY.format(", ".join(busy)), *notes)
    if against:
        return Verdict((), refused=against, notes=notes)
    findings = (
        *limited,
        *shapes.compare(baseline, report),
        *_metrics(baseline, report, gate, mode),
    )
    return Verdict(findings, overruled=_overruled(found), notes=notes)


def _overruled(found: tuple[Difference, ...]) -> tuple[Difference, ...]:
    return tuple(one for one in found if one.side != "note")


def _metrics(baseline: Evidence, report: Evidence, gate: Gate, mode: Mode) -> Iterator[Finding]:
    for name, before in baseline.metrics.items():
        rule = rule_of(name, before, gate)
        reason = _skip(name, baseline, report, gate, mode)
        if reason is not None:
            yield Finding(name, rule.kind, "skipped", reason, before.unit, before.value)
        else:
            yield _judge_one(name, rule, before, report, mode)
    for name, now in report.metrics.items():
        if name not in baseline.metrics:
            yield Finding(name, "told", "new", "not in the baseline", now.unit, None, now.value)


def _skip(name: str, baseline: Evidence, report: Evidence, gate: Gate, mode: Mode) -> str | None:
    """Why a metric is not judged at all; None: it is."""
    if matches(name, gate.ignore):
        return "ignored by the recipe"
    if mode.without_latency and name.startswith(_UNTIMED):
        return "not judged without latency"
    for target, why in report.not_run.items():
        allowed = mode.without_latency or target in baseline.not_run
        if allowed and target in name.split(".") and name not in report.metrics:
            return f"{target} was not run: {why}"
    return None


def _judge_one(name: str, rule: Rule, before: Measurement, report: Evidence, mode: Mode) -> Finding:
    now = report.metrics.get(name)
    if now is None:
        why = [f"; {target} was not run: {why}" for target, why in report.not_run.items()
               if target in name.split(".")]  # fmt: skip
        detail = f"the report does not have it{''.join(why)}"
        return Finding(name, rule.kind, "missing", detail, before.unit, before.value)

    def found(status: Status, detail: str = "") -> Finding:
        return Finding(name, rule.kind, status, detail, before.unit, before.value, now.value)

    for where, one in (("the baseline", before), ("the report", now)):
        problem = _invalid(one)
        if problem:
            return found("invalid", f"{problem} in {where}")
    other = "; ".join(_measured_differently(rule, before, now, mode))
    if other:
        return found("different", other)
    if rule.kind == "told":
        return found("told")
    if mode.other_machine and rule.kind in ("time", "memory"):
        return found("told", "of another machine")
    if mode.busy and rule.kind == "time":
        return found("told", "the machine was busy")
    return _compared(name, rule, before, now)


def _compared(name: str, rule: Rule, before: Measurement, now: Measurement) -> Finding:
    found = change(rule, before, now)
    details = []
    if found.assumed:
        noise = f"{100 * math.expm1(found.noise):.0f} %"
        details.append(f"noise assumed, {noise} in all: {', '.join(found.assumed)}")
    if rule.better == "same" and found.regressed:
        details.append("any change counts")
    status: Status = "ok"
    if found.regressed:
        status = "regressed"
    elif found.improved and rule.better != "same":
        status = "improved"
    detail = "; ".join(details)
    return Finding(name, rule.kind, status, detail, before.unit, before.value, now.value, found)


def _invalid(one: Measurement) -> str:
    if not math.isfinite(one.value):
        return f"the value is {one.value}"
    bounds_ = [each for each in (one.low, one.high) if each is not None]
    if not all(math.isfinite(each) for each in bounds_):
        return "the interval is not finite"
    if len(bounds_) == 1 or (len(bounds_) == 2 and bounds_[0] > bounds_[1]):
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


def _unjudged(name: str, report: Evidence, gate: Gate, mode: Mode) -> str | None:
    """Why a limit on a metric of this name (or pattern) is not judged; None: it is."""
    if mode.without_latency and name.startswith(_UNTIMED):
        return "not judged without latency"
    one = report.metrics.get(name)
    if (
        mode.other_machine
        and one is not None
        and rule_of(name, one, gate).kind in ("time", "memory")
    ):
        return "of another machine"
    return None
