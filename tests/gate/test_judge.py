"""Reports changed field by field: what must fail fails, and nothing else does."""

import math

import pytest
from gate import runs
from hypothesis import given
from hypothesis import strategies as st

from numprune_export.gate.judge import judge
from numprune_export.gate.limits import Gate
from numprune_export.gate.mode import Mode
from numprune_export.report.schema import Gpu, Measurement

BASELINE = runs.evidence()
NAMES = sorted(BASELINE.metrics)
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


def test_a_report_is_no_worse_than_itself():
    found = verdict(runs.evidence())
    assert found.passed
    assert {one.name for one in found.findings} >= set(NAMES)
    assert {one.status for one in found.findings} <= {"ok", "told"}


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_that_is_missing_fails(name):
    assert failed(verdict(runs.without(name))) == {name: "missing"}


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
    left = {k: one for k, one in BASELINE.metrics[SPEEDUP].conditions.items() if k != key}
    found = verdict(runs.with_metric(SPEEDUP, conditions=left))
    assert failed(found) == {SPEEDUP: "different"}
    assert key in found.failures[0].detail


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


BETTER_ONE_WAY = [one for one in WORSE if not one[0].endswith((".dense", ".ideal"))]


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


def test_a_change_within_the_noise_of_both_intervals_is_none():
    wide = {"low": 0.9, "high": 2.0}
    before = runs.with_metric(SPEEDUP, **wide)
    now = runs.with_metric(SPEEDUP, value=1.2, **wide)
    assert verdict(now, baseline=before).passed
    assert failed(verdict(changed(SPEEDUP, 0.85))) == {SPEEDUP: "regressed"}


@given(st.floats(0.3, 3.0), st.floats(1.001, 1.5), st.floats(1.001, 1.5))
def test_a_regression_is_always_beyond_tolerance_noise_and_floor(factor, first, second):
    """The rule itself, from its words: relatively, absolutely, and more than the noise."""
    value = 1.4
    before = runs.with_metric(SPEEDUP, value=value, low=value / first, high=value * first)
    now_value = value * factor
    now = runs.with_metric(
        SPEEDUP, value=now_value, low=now_value / second, high=now_value * second
    )
    loss = -math.log(factor)
    noise = 1.3 * math.hypot(math.log(first), math.log(second))
    expected = loss > math.log(1.02) and loss > noise and value - now_value > 0.01
    assert bool(verdict(now, baseline=before).failures) == expected


def test_two_reports_of_one_sample_each_are_judged_by_assumed_noise_and_say_so():
    one = {"samples": 1, "low": None, "high": None}
    before = runs.with_metric(SPEEDUP, **one)
    close = runs.with_metric(SPEEDUP, **one, value=BASELINE.metrics[SPEEDUP].value * 0.8)
    far = runs.with_metric(SPEEDUP, **one, value=BASELINE.metrics[SPEEDUP].value * 0.5)
    assert verdict(close, baseline=before).passed
    found = verdict(far, baseline=before)
    assert failed(found) == {SPEEDUP: "regressed"}
    assert "noise assumed" in found.failures[0].detail
    assert "few samples (1)" in found.failures[0].detail


def test_a_model_opened_once_has_more_noise_than_its_interval_shows():
    once = dict(BASELINE.metrics[SPEEDUP].conditions)
    del once["sessions"]
    before = runs.with_metric(SPEEDUP, conditions=once, low=1.40, high=1.42)
    value = before.metrics[SPEEDUP].value * 0.955
    now = runs.with_metric(SPEEDUP, conditions=once, value=value, low=1.34, high=1.36)
    assert verdict(now, baseline=before).passed
    assert failed(verdict(changed(SPEEDUP, 0.94))) == {SPEEDUP: "regressed"}


@pytest.mark.parametrize(
    ("name", "unit", "before", "after", "fails"),
    [
        ("quality.accuracy.onnx", "fraction", 0.94, 0.92, True),
        ("quality.accuracy.onnx", "fraction", 0.92, 0.94, False),
        ("quality.loss.onnx", "nats per example", 0.24, 0.26, True),
        ("quality.matthews.onnx", "correlation", 0.90, 0.85, True),
        ("quality.lm_eval.arc.acc_norm.onnx", "fraction", 0.50, 0.45, True),
        ("quality.lm_eval.wiki.word_perplexity.onnx", "perplexity", 20.0, 21.0, True),
        ("quality.sheen.onnx", "points", 20.0, 21.0, True),
        ("quality.sheen.onnx", "points", 20.0, 19.0, True),
    ],
)
def test_the_direction_of_a_score_is_known_or_any_change_counts(name, unit, before, after, fails):
    def having(value):
        one = Measurement(value=value, unit=unit, samples=672)
        return BASELINE.model_copy(update={"metrics": {**BASELINE.metrics, name: one}})

    assert bool(verdict(having(after), baseline=having(before)).failures) == fails


def test_one_example_more_or_less_says_nothing():
    def having(right):
        one = Measurement(value=right / 32, unit="fraction", samples=32)
        return BASELINE.model_copy(
            update={"metrics": {**BASELINE.metrics, "quality.accuracy.onnx": one}}
        )

    assert verdict(having(29), baseline=having(30)).passed
    assert not verdict(having(28), baseline=having(30)).passed


def test_a_recipe_says_which_way_a_score_goes():
    gate = Gate(higher_is_better=("quality.sheen.*",))

    def having(value):
        one = Measurement(value=value, unit="points", samples=9)
        return BASELINE.model_copy(
            update={"metrics": {**BASELINE.metrics, "quality.sheen.onnx": one}}
        )

    assert verdict(having(21.0), baseline=having(20.0), gate=gate).passed
    assert not verdict(having(19.0), baseline=having(20.0), gate=gate).passed


def test_another_shape_fails_by_its_name():
    other = runs.report().plan[1].model_copy(update={"kept": 1272})
    plan = (runs.report().plan[0], other, *runs.report().plan[2:])
    assert failed(verdict(runs.evidence(plan=plan))) == {f"plan.{other.site}": "regressed"}
    assert failed(verdict(runs.evidence(plan=plan[:-1])))[f"plan.{plan[-1].site}"] == "missing"


def test_another_input_of_an_artifact_fails():
    artifacts = dict(runs.report().artifacts)
    facts = {"graph": "gqa", "inputs": {"input_ids": {"type": "int64", "shape": ["batch", 1]}}}
    before = {"onnx.dense": artifacts["onnx.dense"].model_copy(update={"facts": facts})}
    extra = {**facts, "inputs": {**facts["inputs"], "mask": {"type": "int64", "shape": []}}}
    after = {"onnx.dense": artifacts["onnx.dense"].model_copy(update={"facts": extra})}
    found = verdict(runs.evidence(artifacts=after), baseline=runs.evidence(artifacts=before))
    assert failed(found) == {"artifact.onnx.dense.inputs.mask": "regressed"}


def test_what_the_baseline_does_not_have_is_listed_and_not_judged():
    more = {
        **BASELINE.metrics,
        "quality.accuracy.onnx": Measurement(value=0.1, unit="x", samples=1),
    }
    found = verdict(BASELINE.model_copy(update={"metrics": more}))
    assert found.passed
    assert [one.name for one in found.findings if one.status == "new"] == ["quality.accuracy.onnx"]


def test_what_a_recipe_ignores_is_skipped():
    found = verdict(runs.without(SPEEDUP), gate=Gate(ignore=("latency.onnx.*",)))
    assert found.passed
    assert {one.status for one in found.findings if "latency.onnx" in one.name} == {"skipped"}


def test_a_tolerance_of_the_recipe_is_used():
    tighter = Gate.model_validate({"tolerance": {"quality": 0.001}})
    assert not verdict(changed("quality.perplexity.onnx", 1.005), gate=tighter).passed
    wider = Gate.model_validate({"tolerance": {"quality": 0.2}})
    assert verdict(changed("quality.perplexity.onnx", 1.1), gate=wider).passed


NOT_RUN = {"not_run": {"onnx": "no runtime here"}}


def test_a_target_that_was_not_run_fails_unless_the_baseline_says_so_too():
    left = {name: one for name, one in BASELINE.metrics.items() if ".onnx" not in name}
    now = BASELINE.model_copy(update={"metrics": left, **NOT_RUN})
    found = verdict(now)
    assert SPEEDUP in failed(found)
    assert "no runtime here" in next(one for one in found.failures if one.name == SPEEDUP).detail
    assert verdict(now, baseline=BASELINE.model_copy(update=NOT_RUN)).passed
    assert verdict(now, without_latency=True).passed


def test_without_latency_only_what_needs_no_clock_is_judged():
    slow = {
        name: one.model_copy(update={"value": one.value * 0.5})
        if name.startswith(("latency.", "memory."))
        else one
        for name, one in BASELINE.metrics.items()
    }
    now = BASELINE.model_copy(update={"metrics": slow})
    assert not verdict(now).passed
    found = verdict(now, without_latency=True)
    assert found.passed
    judged = {one.kind for one in found.findings if one.status == "ok"}
    assert judged == {"size", "quality", "parity", "shape"}
    assert not verdict(changed("quality.perplexity.onnx", 1.05), without_latency=True).passed
    assert not verdict(changed("size.bytes.pruned", 1.05), without_latency=True).passed
    assert not verdict(changed("parity.onnx.max_abs_error", 9.0), without_latency=True).passed


def test_without_latency_another_machine_is_told_and_not_refused():
    card = Gpu(name="H100", memory_bytes=1, compute_capability="9.0", driver_version="580")
    found = verdict(runs.with_environment(gpus=(card,), cpu="other"), without_latency=True)
    assert found.passed
    assert {one.what for one in found.overruled} == {"cpu", "GPUs"}


def test_times_of_a_busy_machine_are_not_compared_and_ratios_are():
    def busy(factor):
        return {
            name: one.model_copy(update={"value": one.value * factor})
            if name.endswith(("p50_ms", "p90_ms", "p99_ms"))
            else one
            for name, one in BASELINE.metrics.items()
        }

    found = verdict(BASELINE.model_copy(update={"metrics": busy(2.5)}))
    assert found.passed
    assert any("the report was measured (clock time 2.5x" in note for note in found.notes)
    slower = {**busy(2.5), SPEEDUP: changed(SPEEDUP, 0.9).metrics[SPEEDUP]}
    assert SPEEDUP in failed(verdict(BASELINE.model_copy(update={"metrics": slower})))


def test_slower_on_a_quiet_machine_is_a_regression():
    """Clock and processor alike: the model, not the machine."""
    slow = {
        name: one.model_copy(update={"value": one.value * 1.6})
        if name.endswith(("p50_ms", "cpu_ms"))
        else one
        for name, one in BASELINE.metrics.items()
    }
    assert P50 in failed(verdict(BASELINE.model_copy(update={"metrics": slow})))


def noisy():
    """A speed-up whose interval is wide in both."""
    return runs.with_metric(SPEEDUP, low=0.9, high=2.2)


def test_noise_that_hides_a_regression_is_told():
    found = verdict(noisy(), baseline=noisy())
    assert found.passed
    (note,) = found.notes
    assert note.startswith("1 of 8 speed-ups are too noisy to see 25 %")
    assert f"{SPEEDUP}, could fall by 56 % and pass" in note
    assert verdict(runs.evidence()).notes == ()


def test_a_recipe_can_refuse_noise():
    found = verdict(noisy(), baseline=noisy(), gate=Gate(noise=0.5))
    assert failed(found) == {SPEEDUP: "broken"}
    assert "too noisy: more than 50 % would pass" in found.failures[0].detail
    assert verdict(noisy(), baseline=noisy(), gate=Gate(noise=0.6)).passed
