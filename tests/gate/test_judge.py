"""Reports changed field by field: what must fail fails, and nothing else does."""

import math

import pytest
from gate import runs
from gate.verdicts import BASELINE, P50, SPEEDUP, changed, failed, verdict

from numprune_export.gate.limits import Gate

NAMES = sorted(BASELINE.metrics)
CALIBRATED = "time.calibrate_s"


def test_a_report_is_no_worse_than_itself():
    decision = verdict(runs.evidence())
    assert decision.passed
    assert {finding.name for finding in decision.findings} >= set(NAMES)
    assert {finding.status for finding in decision.findings} <= {"ok", "told"}


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_that_is_missing_fails(name):
    assert failed(verdict(runs.without(name))) == {name: "missing"}


def test_statistics_may_have_been_collected_by_the_score_stage():
    missing = {name: metric for name, metric in BASELINE.metrics.items() if name != CALIBRATED}
    scored = {"time.score_s": BASELINE.metrics[CALIBRATED]}
    report = runs.evidence().model_copy(update={"metrics": missing | scored})
    decision = verdict(report)
    assert decision.passed
    assert {finding.name: finding.status for finding in decision.findings}[CALIBRATED] == "skipped"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_every_metric_that_is_no_number_fails(name, value):
    broken = runs.with_metric(name, value=value)
    assert failed(verdict(broken)) == {name: "invalid"}
    assert failed(verdict(runs.evidence(), baseline=broken)) == {name: "invalid"}


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_in_another_unit_fails(name):
    assert failed(verdict(runs.with_metric(name, unit="furlongs"))) == {name: "different"}


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_measured_under_another_condition_fails(name):
    conditions = {**BASELINE.metrics[name].conditions, "batch": 7}
    assert failed(verdict(runs.with_metric(name, conditions=conditions))) == {name: "different"}


@pytest.mark.parametrize("key", sorted(BASELINE.metrics[SPEEDUP].conditions))
def test_a_condition_that_is_gone_fails(key):
    left = {
        k: condition for k, condition in BASELINE.metrics[SPEEDUP].conditions.items() if k != key
    }
    decision = verdict(runs.with_metric(SPEEDUP, conditions=left))
    assert failed(decision) == {SPEEDUP: "different"}
    assert key in decision.failures[0].detail


@pytest.mark.parametrize("name", [SPEEDUP, P50, "quality.perplexity.onnx"])
def test_another_number_of_samples_fails(name):
    assert failed(verdict(runs.with_metric(name, samples=3))) == {name: "different"}


@pytest.mark.parametrize(
    ("interval", "status"),
    [
        ({"low": None, "high": None}, "different"),
        ({"low": math.nan}, "invalid"),
        ({"high": math.inf}, "invalid"),
        ({"low": None}, "invalid"),
        ({"low": 2.0, "high": 1.0}, "invalid"),
    ],
)
def test_an_interval_that_is_none_fails(interval, status):
    assert failed(verdict(runs.with_metric(SPEEDUP, **interval))) == {SPEEDUP: status}


WORSE = [
    ("latency.onnx.prefill.speedup", 0.90),
    ("latency.onnx.prefill.cpu_speedup", 0.90),
    ("latency.torch.decode.speedup", 0.93),
    ("latency.onnx.prefill.ideal", 0.99),
    ("latency.onnx.decode.pruned.p50_ms", 1.5),
    ("latency.onnx.decode.dense.cpu_ms", 1.5),
    ("latency.onnx.decode.pruned.tokens_per_s", 0.6),
    ("memory.onnx.pruned.peak_bytes", 1.15),
    ("size.parameters.pruned", 1.0001),
    ("size.parameters.dense", 0.9999),
    ("size.bytes.pruned", 1.0001),
    ("size.parameters.ratio", 1.001),
    ("quality.perplexity.onnx", 1.02),
    ("quality.perplexity.pruned", 1.02),
    ("parity.onnx.max_abs_error", 6.0),
    ("parity.onnx.kl_mean", 1e6),
    ("parity.onnx.top1_agreement", 0.98),
    ("parity.onnx.greedy_match", 0.98),
]


@pytest.mark.parametrize(("name", "factor"), WORSE)
def test_what_is_worse_beyond_tolerance_and_noise_regressed(name, factor):
    if name.startswith("size.") and name.endswith(".dense"):
        # Two dense models of different size are no pair at all, were it not for their hash.
        assert BASELINE.dense_sha256 is not None
    assert failed(verdict(changed(name, factor))) == {name: "regressed"}


BETTER_ONE_WAY = [change for change in WORSE if not change[0].endswith((".dense", ".ideal"))]


@pytest.mark.parametrize(("name", "factor"), BETTER_ONE_WAY)
def test_what_is_better_passes(name, factor):
    assert verdict(changed(name, 1 / factor)).passed


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("latency.onnx.prefill.speedup", 0.98),
        ("latency.onnx.decode.pruned.p50_ms", 1.2),
        ("memory.onnx.pruned.peak_bytes", 1.05),
        ("quality.perplexity.onnx", 1.005),
        ("parity.onnx.max_abs_error", 3.0),
    ],
)
def test_what_is_within_tolerance_passes(name, factor):
    assert verdict(changed(name, factor)).passed


def test_a_tolerance_of_the_recipe_is_used():
    tighter = Gate.model_validate({"tolerance": {"quality": 0.001}})
    assert not verdict(changed("quality.perplexity.onnx", 1.005), gate=tighter).passed
    wider = Gate.model_validate({"tolerance": {"quality": 0.2}})
    assert verdict(changed("quality.perplexity.onnx", 1.1), gate=wider).passed
