"""What noise hides, and what it may not."""

import math

from gate import runs
from gate.verdicts import BASELINE, P50, SPEEDUP, changed, failed, verdict
from hypothesis import given
from hypothesis import strategies as st

from numprune_export.gate.limits import Gate


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
    single_sample = {"samples": 1, "low": None, "high": None}
    before = runs.with_metric(SPEEDUP, **single_sample)
    close = runs.with_metric(SPEEDUP, **single_sample, value=BASELINE.metrics[SPEEDUP].value * 0.8)
    far = runs.with_metric(SPEEDUP, **single_sample, value=BASELINE.metrics[SPEEDUP].value * 0.5)
    assert verdict(close, baseline=before).passed
    decision = verdict(far, baseline=before)
    assert failed(decision) == {SPEEDUP: "regressed"}
    assert "noise assumed" in decision.failures[0].detail
    assert "few samples (1)" in decision.failures[0].detail


def test_a_model_opened_once_has_more_noise_than_its_interval_shows():
    once = dict(BASELINE.metrics[SPEEDUP].conditions)
    del once["sessions"]
    before = runs.with_metric(SPEEDUP, conditions=once, low=1.40, high=1.42)
    value = before.metrics[SPEEDUP].value * 0.955
    now = runs.with_metric(SPEEDUP, conditions=once, value=value, low=1.34, high=1.36)
    assert verdict(now, baseline=before).passed
    assert failed(verdict(changed(SPEEDUP, 0.94))) == {SPEEDUP: "regressed"}


def test_times_of_a_busy_machine_are_not_compared_and_ratios_are():
    def busy(factor):
        return {
            name: metric.model_copy(update={"value": metric.value * factor})
            if name.endswith(("p50_ms", "p90_ms", "p99_ms"))
            else metric
            for name, metric in BASELINE.metrics.items()
        }

    decision = verdict(BASELINE.model_copy(update={"metrics": busy(2.5)}))
    assert decision.passed
    assert any("the report was measured (clock time 2.5x" in note for note in decision.notes)
    slower = {**busy(2.5), SPEEDUP: changed(SPEEDUP, 0.9).metrics[SPEEDUP]}
    assert SPEEDUP in failed(verdict(BASELINE.model_copy(update={"metrics": slower})))


def test_slower_on_a_quiet_machine_is_a_regression():
    """Clock and processor alike: the model, not the machine."""
    slow = {
        name: metric.model_copy(update={"value": metric.value * 1.6})
        if name.endswith(("p50_ms", "cpu_ms"))
        else metric
        for name, metric in BASELINE.metrics.items()
    }
    assert P50 in failed(verdict(BASELINE.model_copy(update={"metrics": slow})))


def noisy():
    """A speed-up whose interval is wide in both."""
    return runs.with_metric(SPEEDUP, low=0.9, high=2.2)


def test_noise_that_hides_a_regression_is_told():
    decision = verdict(noisy(), baseline=noisy())
    assert decision.passed
    (note,) = decision.notes
    assert note.startswith("1 of 8 speed-ups are too noisy to detect a drop of 25 %")
    assert f"{SPEEDUP}, could fall by 56 % and pass" in note
    assert verdict(runs.evidence()).notes == ()


def test_a_recipe_can_refuse_noise():
    decision = verdict(noisy(), baseline=noisy(), gate=Gate(noise=0.5))
    assert failed(decision) == {SPEEDUP: "broken"}
    assert "too noisy: more than 50 % would pass" in decision.failures[0].detail
    assert verdict(noisy(), baseline=noisy(), gate=Gate(noise=0.6)).passed
