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


def failed(decision):
    return {finding.name: finding.status for finding in decision.failures}


def changed(name, factor):
    """A metric times a factor, its interval with it."""
    metric = BASELINE.metrics[name]
    low = None if metric.low is None else metric.low * factor
    high = None if metric.high is None else metric.high * factor
    return runs.with_metric(name, value=metric.value * factor, low=low, high=high)
