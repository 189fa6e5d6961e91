"""Judge a report against limits and a baseline: one finding per metric; missing ones fail."""

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
_CALIBRATED, _SCORED = "time.calibrate_s", "time.score_s"
NOISY = 0.25
"""Fraction: a speed-up that could worsen by more than this and still pass is noted as noisy."""


def judge(report: Evidence, baseline: Evidence | None, gate: Gate, mode: Mode = STRICT) -> Verdict:
    """Findings for every limit, every shape and metric of the baseline, and every new metric."""
    limited = tuple(bounds(report, gate, skip=lambda name: _unjudged(name, report, gate, mode)))
    if baseline is None:
        return Verdict(limited)
    busy = tuple(_busy(baseline, report))
    all_differences = differences(baseline, report)
    notes = (
        *busy,
        *(str(difference) for difference in all_differences if difference.side == "note"),
    )
    counting = tuple(difference for difference in all_differences if difference.side != "note")
    against = tuple(difference for difference in counting if difference.side not in mode.overrules)
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
            detail = f"missing from the report{_not_run(name, report)}"
            yield Finding(name, kind, "missing", detail, before.unit, before.value)
        else:
            yield judge_metric(name, before, now, gate, mode)
    for name, now in report.metrics.items():
        if name not in baseline.metrics:
            yield Finding(name, "told", "new", "not in the baseline", now.unit, None, now.value)


def _skip(name: str, baseline: Evidence, report: Evidence, gate: Gate, mode: Mode) -> str | None:
    """The reason why a metric is skipped; None if it is judged."""
    if matches(name, gate.ignore):
        return "ignored by the recipe"
    if mode.without_latency and name.startswith(_UNTIMED):
        return "not judged without latency"
    if name == _CALIBRATED and name not in report.metrics and _SCORED in report.metrics:
        return "the score stage collected the statistics"
    for target, why in report.not_run.items():
        allowed = mode.without_latency or target in baseline.not_run
        if allowed and target in name.split(".") and name not in report.metrics:
            return f"{target} was not run: {why}"
    return None


def _not_run(name: str, report: Evidence) -> str:
    parts = name.split(".")
    return "".join(
        f"; {target} was not run: {why}"
        for target, why in report.not_run.items()
        if target in parts
    )


def _unjudged(name: str, report: Evidence, gate: Gate, mode: Mode) -> str | None:
    """The reason why a limit on this metric (or pattern) is skipped; None if it is judged."""
    if mode.without_latency and name.startswith(_UNTIMED):
        return "not judged without latency"
    metric = report.metrics.get(name)
    if mode.other_machine and metric and rule_of(name, metric, gate).kind in ("time", "memory"):
        return "measured on another machine"
    return None


def _busy(baseline: Evidence, report: Evidence) -> Iterator[str]:
    for which, evidence in (("baseline", baseline), ("report", report)):
        share = taken_away(evidence)
        if share is not None and share > LIMIT:
            yield (
                f"the machine was busy with other work when the {which} was measured (clock time"
                f" {share:.1f}x processor time): times are not compared, ratios are"
            )


def _noisy(findings: Sequence[Finding]) -> Iterator[str]:
    """A note if the noise of some speed-ups could hide a regression of more than `NOISY`."""
    hidden = {
        finding.name: finding.change.allowed
        for finding in findings
        if finding.kind == "ratio" and finding.change is not None
    }
    noisy = [name for name, allowed in hidden.items() if allowed > NOISY]
    if noisy:
        worst = max(noisy, key=lambda name: hidden[name])
        yield (
            f"{len(noisy)} of {len(hidden)} speed-ups are too noisy to detect a drop of"
            f" {100 * NOISY:.0f} %; the worst, {worst}, could fall by"
            f" {100 * hidden[worst]:.0f} % and pass"
        )
