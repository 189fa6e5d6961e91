"""Whether a change is more than noise.

Changes are differences of logarithms, in which a ratio and its inverse are equally far from 1. Of a
metric x with the 95 % interval (l, h) the noise is half of ln(h/l); that of a difference of two
independent ones is the root of the sum of squares. A value that is 0 or below has no logarithm: it
is compared as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

from numprune_export.gate.evidence import Evidence
from numprune_export.gate.rules import Rule
from numprune_export.report.schema import Measurement

MINIMUM_SAMPLES = 5
"""An interval of fewer is not believed."""
MINIMUM_SESSIONS = 3
"""From as many on, an interval is over sessions: see `Benchmark.sessions`."""
MARGIN = 1.3
"""A report has several speed-ups, and the chance that one of them alarms grows with their number:
each is held to 1.3 times its 95 % noise, which is about 99.5 %, one-sided."""
ONE_SESSION = 0.03
"""Noise between sessions that an interval over the rounds of a single one does not show."""
ASSUMED = {"ratio": 0.10, "time": 0.15, "memory": 0.02}
"""Noise, as a logarithm, where a report has no interval; of fewer than `MINIMUM_SAMPLES` it is
`ASSUMED_OF_FEW`. A size and a parity have none."""
ASSUMED_OF_FEW = {"ratio": 0.25, "time": 0.5, "memory": 0.02}


@dataclass(frozen=True)
class Change:
    """What became of one metric."""

    worse: float
    """By how much it is worse, as a logarithm (or plainly, where one value is not positive)."""
    tolerated: float
    """Up to where that does not count: the tolerance, or the noise of both if that is larger."""
    noise: float
    """Of both together, margin included."""
    assumed: tuple[str, ...]
    """What of the noise is assumed and not measured, in words."""
    above_floor: bool
    falls: bool
    """Whether worse is less."""

    @property
    def allowed(self) -> float:
        """How much worse would still pass, as a fraction of the baseline."""
        return self.fraction(self.tolerated)

    def fraction(self, step: float) -> float:
        """A step for the worse, as a fraction of the baseline: of a thing that falls below 1."""
        return -math.expm1(-step) if self.falls else math.expm1(step)

    @property
    def regressed(self) -> bool:
        return self.worse > self.tolerated and self.above_floor

    @property
    def improved(self) -> bool:
        return -self.worse > self.tolerated and self.above_floor


def change(rule: Rule, baseline: Measurement, report: Measurement) -> Change:
    """Compare two finite measurements of the same thing."""
    first, second = (_noise(rule, one) for one in (baseline, report))
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


def _noise(rule: Rule, one: Measurement) -> tuple[float, str]:
    """Half the interval, and what of it is assumed."""
    if rule.kind not in ASSUMED:
        return 0.0, ""
    if one.samples < MINIMUM_SAMPLES and rule.kind != "memory":
        return ASSUMED_OF_FEW[rule.kind], f"few samples ({one.samples})"
    if one.low is None or one.high is None or one.low <= 0:
        return ASSUMED[rule.kind], "no interval"
    half = math.log(one.high / one.low) / 2
    sessions = one.conditions.get("sessions", 1)
    if rule.kind == "ratio" and (not isinstance(sessions, int) or sessions < MINIMUM_SESSIONS):
        return math.hypot(half, ONE_SESSION), "models opened once"
    return half, ""


LIMIT = 1.25
"""Clock time over processor time from which a machine counts as busy."""


def taken_away(evidence: Evidence) -> float | None:
    """How much longer the clock ran than the processor worked: the median over all that was timed.

    1 on a machine that did nothing else. One thread only, for threads that wait for each other look
    the same; and on the CPU only, whose work is all in its processor time. None: nothing such.
    """
    found = []
    for name, one in evidence.metrics.items():
        busy = evidence.metrics.get(f"{name.removesuffix('.p50_ms')}.cpu_ms")
        alone = one.conditions.get("threads") == 1 and one.conditions.get("device") == "cpu"
        if name.endswith(".p50_ms") and alone and busy is not None and busy.value > 0:
            found.append(one.value / busy.value)
    return median(found) if found else None
