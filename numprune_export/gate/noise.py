"""Decide whether a change of a metric exceeds noise.

Changes are differences of logarithms, so a ratio and its inverse are equally far from 1. The noise
of a metric with the 95 % interval (l, h) is ln(h/l) / 2; the noise of the difference of two
independent metrics is the root of the sum of squares. Values <= 0 have no logarithm and are
compared directly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

from numprune_export.gate.evidence import Evidence
from numprune_export.gate.rules import Rule
from numprune_export.report.schema import Measurement

MINIMUM_SAMPLES = 5
"""An interval over fewer samples is not used."""
MINIMUM_SESSIONS = 3
"""With at least this many sessions, intervals are over sessions: see `Benchmark.sessions`."""
MARGIN = 1.3
"""A report has several speed-ups, and the probability of a false alarm grows with their number. The
limit is therefore 1.3 times the 95 % noise: about 99.5 %, one-sided."""
ONE_SESSION = 0.03
"""Noise between sessions, which an interval over the rounds of one session does not include."""
ASSUMED = {"ratio": 0.10, "time": 0.15, "memory": 0.02}
"""Noise, as a logarithm, where a report has no interval; with fewer than `MINIMUM_SAMPLES` samples,
`ASSUMED_OF_FEW` applies. Sizes and parity have no noise."""
ASSUMED_OF_FEW = {"ratio": 0.25, "time": 0.5, "memory": 0.02}


@dataclass(frozen=True)
class Change:
    """The change of one metric between baseline and report."""

    worse: float
    """Change for the worse, as a logarithm (or a difference, if a value is not positive)."""
    tolerated: float
    """Largest `worse` that passes: the tolerance, or the combined noise if that is larger."""
    noise: float
    """Combined noise of both measurements, margin included."""
    assumed: tuple[str, ...]
    """Reasons why noise was assumed instead of measured."""
    above_floor: bool
    """Whether the absolute difference exceeds `Rule.floor`."""
    falls: bool
    """Whether lower is worse."""

    @property
    def allowed(self) -> float:
        """The largest regression that passes, as a fraction of the baseline."""
        return self.fraction(self.tolerated)

    def fraction(self, step: float) -> float:
        """Convert a logarithmic change for the worse into a fraction of the baseline; below 1 if
        lower is worse."""
        return -math.expm1(-step) if self.falls else math.expm1(step)

    @property
    def regressed(self) -> bool:
        return self.worse > self.tolerated and self.above_floor

    @property
    def improved(self) -> bool:
        return -self.worse > self.tolerated and self.above_floor


def change(rule: Rule, baseline: Measurement, report: Measurement) -> Change:
    """Compare two finite measurements of the same metric."""
    first, second = (_noise(rule, metric) for metric in (baseline, report))
    noise = MARGIN * math.hypot(first[0], second[0])
    return Change(
        worse=_worse(rule, baseline.value, report.value),
        tolerated=max(math.log1p(rule.tolerance), noise),
        noise=noise,
        assumed=tuple(dict.fromkeys(why for why in (first[1], second[1]) if why)),
        above_floor=abs(report.value - baseline.value) > rule.floor,
        falls=rule.better == "higher",
    )


def _worse(rule: Rule, baseline: float, report: float) -> float:
    positive = baseline > 0 and report > 0
    step = math.log(report / baseline) if positive else report - baseline
    if rule.better == "same":
        return abs(step)
    return step if rule.better == "lower" else -step


def _noise(rule: Rule, metric: Measurement) -> tuple[float, str]:
    """Half the width of the 95 % interval, as a logarithm, and the reason if it is assumed."""
    if rule.kind not in ASSUMED:
        return 0.0, ""
    if metric.samples < MINIMUM_SAMPLES and rule.kind != "memory":
        return ASSUMED_OF_FEW[rule.kind], f"few samples ({metric.samples})"
    if metric.low is None or metric.high is None or metric.low <= 0:
        return ASSUMED[rule.kind], "no interval"
    half = math.log(metric.high / metric.low) / 2
    sessions = metric.conditions.get("sessions", 1)
    if rule.kind == "ratio" and (not isinstance(sessions, int) or sessions < MINIMUM_SESSIONS):
        return math.hypot(half, ONE_SESSION), "models opened once"
    return half, ""


LIMIT = 1.25
"""Ratio of wall time to CPU time above which a machine counts as busy."""


def taken_away(evidence: Evidence) -> float | None:
    """Median ratio of wall time to CPU time over all timed phases; 1 on an idle machine.

    Only single-threaded CPU timings count: threads waiting for each other, or for a GPU, raise the
    ratio too. None if there are no such timings.
    """
    ratios = []
    for name, metric in evidence.metrics.items():
        busy = evidence.metrics.get(f"{name.removesuffix('.p50_ms')}.cpu_ms")
        alone = metric.conditions.get("threads") == 1 and metric.conditions.get("device") == "cpu"
        if name.endswith(".p50_ms") and alone and busy is not None and busy.value > 0:
            ratios.append(metric.value / busy.value)
    return median(ratios) if ratios else None
