"""A report against limits and a baseline: every metric gets a finding, and silence never passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from numprune_export.gate import shape_check
from numprune_export.gate.comparable import differences
from numprune_export.gate.evidence import Evidence
from numprune_export.gate.limit_check import bounds
from numprune_export.gate.limits import Gate
from numprune_export.gate.metric_check import judge_metric
from numprune_export.gate.noise import LIMIT, taken_away
from numprune_export.gate.rules import matches, rule_of
from numprune_export.gate.verdict import STRICT, Finding, Mode, Verdict

_UNTIMED = ("latency.", "memory.", "time.", "gpu.", "budget.")
NOISY = 0.25
"""A speed-up that could be worse by more than this fraction and pass is told as noisy."""


def judge(report: Evidence, baseline: Evidence | None, gate: Gate, mode: Mode = STRICT) -> Verdict:
    """Every metric of the baseline, every limit, and what is new."""
    limited = tuple(bounds(report, gate, skip=lambda name: _unjudged(name, report, gate, mode)))
    if baseline is None:
        return Verdict(limited)
    busy = tuple(_busy(baseline, report))
    found = differences(baseline, report)
    notes = (*busy, *(str(one) for one in found if one.side == "note"))
    counting = tuple(one for one in found if one.side != "note")
    against = tuple(one for one in counting if one.side not in mode.overrules)
    if against:
        return Verdict((), refused=against, notes=notes)
    metrics = tuple(_metrics(baseline, report, gate, replace(mode, busy=bool(busy))))
    findings = (*limited, *shape_check.compare(baseline, report), *metrics)
    return Verdict(findings, overruled=counting, notes=(*_noisy(metrics), *notes))


def _metrics(baseline: Evidence, report: Evidence, gate: Gate, mode: Mode) -> Iterator[Finding]:
    for name, before in baseline.metrics.items():
        kind, now = rule_of(name, before, gate).kind, report.metrics.get(name)
        reason = _skip(name, baseline, report, gate, mode)
        if reason is not None:
            yield Finding(name, kind, "skipped", reason, before.unit, before.value)
        elif now is None:
            detail = f"the report does not have it{_not_run(name, report)}"
            yield Finding(name, kind, "missing", detail, before.unit, before.value)
        else:
            yield judge_metric(name, before, now, gate, mode)
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


def _not_run(name: str, report: Evidence) -> str:
    told = [one for one in report.not_run.items() if one[0] in name.split(".")]
    return "".join(f"; {target} was not run: {why}" for target, why in told)


def _unjudged(name: str, report: Evidence, gate: Gate, mode: Mode) -> str | None:
    """Why a limit on a metric of this name (or pattern) is not judged; None: it is."""
    if mode.without_latency and name.startswith(_UNTIMED):
        return "not judged without latency"
    one = report.metrics.get(name)
    if mode.other_machine and one and rule_of(name, one, gate).kind in ("time", "memory"):
        return "of another machine"
    return None


def _busy(baseline: Evidence, report: Evidence) -> Iterator[str]:
    for which, one in (("baseline", baseline), ("report", report)):
        share = taken_away(one)
        if share is not None and share > LIMIT:
            yield (
                f"the machine was busy with other work when the {which} was measured (clock time"
                f" {share:.1f}x processor time): times are not compared, ratios are"
            )


def _noisy(findings: Sequence[Finding]) -> Iterator[str]:
    """Speed-ups whose noise hides what a reader would call a regression."""
    hidden = {
        one.name: one.change.allowed
        for one in findings
        if one.kind == "ratio" and one.change is not None
    }
    noisy = [name for name, allowed in hidden.items() if allowed > NOISY]
    if noisy:
        worst = max(noisy, key=lambda name: hidden[name])
        yield (
            f"{len(noisy)} of {len(hidden)} speed-ups are too noisy to see"
            f" {100 * NOISY:.0f} %; the worst, {worst}, could fall by"
            f" {100 * hidden[worst]:.0f} % and pass"
        )
