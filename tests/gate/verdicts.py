"""Verdicts on a report that is nearly the baseline."""

from gate import runs

from numprune_export.gate.judge import judge
from numprune_export.gate.limits import Gate
from numprune_export.gate.verdict import Mode

BASELINE = runs.evidence()


SPEEDUP = "latency.onnx.prefill.speedup"


P50 = "latency.onnx.prefill.pruned.p50_ms"


def verdict(report, baseline=BASELINE, gate=None, **mode):
    return judge(report, baseline, gate or Gate(), Mode(**mode))


def failed(found):
    return {one.name: one.status for one in found.failures}


def changed(name, factor):
    """A metric times a factor, its interval with it."""
    one = BASELINE.metrics[name]
    low = None if one.low is None else one.low * factor
    high = None if one.high is None else one.high * factor
    return runs.with_metric(name, value=one.value * factor, low=low, high=high)
