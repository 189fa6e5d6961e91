"""Limits of the recipe: kept, broken, and on what is not there."""

import math

import pytest
from gate import runs
from pydantic import ValidationError

from numprune_export.gate.judge import judge
from numprune_export.gate.limits import Gate
from numprune_export.gate.verdict import Mode

SPEEDUP = "latency.onnx.prefill.speedup"


def found(report=None, mode=None, **gate):
    verdict = judge(report or runs.evidence(), None, Gate.model_validate(gate), mode or Mode())
    return [(finding.name, finding.status) for finding in verdict.findings], verdict.passed


@pytest.mark.parametrize(
    ("gate", "finding", "passed"),
    [
        ({"min": {SPEEDUP: 1.41}}, (f"{SPEEDUP} >= 1.41", "ok"), True),
        ({"min": {SPEEDUP: 1.42}}, (f"{SPEEDUP} >= 1.42", "broken"), False),
        ({"max": {"quality.perplexity.onnx": 25.31}}, ("quality.perplexity.onnx <= 25.31", "ok"), True),
        ({"max": {"quality.perplexity.onnx": 25}}, ("quality.perplexity.onnx <= 25", "broken"), False),
        ({"min": {"latency.trt.*": 1}}, ("latency.trt.* >= 1", "missing"), False),
        ({"require": ["quality.accuracy.*"]}, ("quality.accuracy.* is there", "missing"), False),
        ({"require": ["quality.perplexity.dense"]}, ("quality.perplexity.dense is there", "ok"), True),
    ],
)  # fmt: skip
def test_a_limit_is_kept_or_broken(gate, finding, passed):
    assert found(**gate) == ([finding], passed)


def test_a_pattern_is_judged_for_every_metric_that_it_names():
    names, passed = found(min={"latency.*.speedup": 1.0})
    assert len(names) == 4
    assert passed
    assert not found(min={"latency.*.speedup": 1.2})[1]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    "limit", [{"min": {SPEEDUP: 1}}, {"max": {SPEEDUP: 9}}, {"require": [SPEEDUP]}]
)
def test_what_is_no_number_keeps_no_limit(value, limit):
    names, passed = found(runs.with_metric(SPEEDUP, value=value), **limit)
    assert [status for _, status in names] == ["invalid"]
    assert not passed


def test_limits_on_time_wait_for_a_machine_that_can_time():
    names, passed = found(min={SPEEDUP: 9}, mode=Mode(without_latency=True))
    assert (names, passed) == ([(f"{SPEEDUP} >= 9", "skipped")], True)
    p50 = "latency.onnx.prefill.pruned.p50_ms"
    assert found(max={p50: 1}, mode=Mode(other_machine=True))[1]
    assert not found(min={SPEEDUP: 9}, mode=Mode(other_machine=True))[1]


@pytest.mark.parametrize(
    "section",
    [
        {"least": {}},
        {"min": {SPEEDUP: "fast"}},
        {"min": {SPEEDUP: math.nan}},
        {"tolerance": {"ratios": -0.1}},
        {"tolerance": {"ratio": 0.1}},
        {"require": [""]},
    ],
)
def test_a_section_that_is_wrong_is_refused(section):
    with pytest.raises(ValidationError):
        Gate.model_validate(section)
