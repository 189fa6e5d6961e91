"""Whether a change is more than noise.

Changes are differences of logarithms, in which a ratio and its inverse are equally far from 1. Of a
metric x with the 95 % interval (l, h) the noise is half of ln(h/l); that of a difference of two
independent ones is the root of the sum of squares. A value that is 0 or below has no logarithm: it
is compared as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from numprune_export.gate.rules import Rule
from numprune_export.report.schema import Measurement

MINIMUM_SAMPLES = 5
"""An interval of fewer is not believed."""
ASSUMED = {"ratio": 0.10, "time": 0.25, "memory": 0.02}
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
    assumed: bool
    """Whether the noise, or part of it, is assumed for want of an interval."""
    above_floor: bool

    @property
    def regressed(self) -> bool:
        return self.worse > self.tolerated and self.above_floor

    @property
    def improved(self) -> bool:
        return -self.worse > self.tolerated and self.above_floor


def change(rule: Rule, baseline: Measurement, report: Measurement) -> Change:
    """Compare two finite measurements of the same thing."""
    if rule.same_examples:
        noise, assumed = 0.0, False
    else:
        first, second = (_noise(rule, one) for one in (baseline, report))
        noise, assumed = math.hypot(first[0], second[0]), first[1] or second[1]
    worse = _worse(rule, baseline.value, report.value)
    return Change(
        worse=worse,
        tolerated=max(math.log1p(rule.tolerance), noise),
        noise=noise,
        assumed=assumed,
        above_floor=abs(report.value - baseline.value) > rule.floor,
    )


def _worse(rule: Rule, baseline: float, report: float) -> float:
    positive = baseline > 0 and report > 0
    step = math.log(report / baseline) if positive else report - baseline
    if rule.better == "same":
        return abs(step)
    return step if rule.better == "lower" else -step


def _noise(rule: Rule, one: Measurement) -> tuple[float, bool]:
    """Half the interval, and whether it is assumed."""
    if rule.kind not in ASSUMED:
        return 0.0, False
    if one.low is None or one.high is None or one.low <= 0 or one.samples < MINIMUM_SAMPLES:
        few = one.samples < MINIMUM_SAMPLES and rule.kind != "memory"
        return (ASSUMED_OF_FEW if few else ASSUMED)[rule.kind], True
    return math.log(one.high / one.low) / 2, False
