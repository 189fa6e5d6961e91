"""What is judged and what is not: scores by their direction, shapes, inputs, what was not run."""

import pytest
from gate import runs
from gate.verdicts import BASELINE, SPEEDUP, changed, failed, verdict

from numprune_export.gate.limits import Gate
from numprune_export.measure.environment import Gpu
from numprune_export.report.schema import Measurement


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
        metric = Measurement(value=value, unit=unit, samples=672)
        return BASELINE.model_copy(update={"metrics": {**BASELINE.metrics, name: metric}})

    assert bool(verdict(having(after), baseline=having(before)).failures) == fails


def test_one_example_more_or_less_says_nothing():
    def having(right):
        metric = Measurement(value=right / 32, unit="fraction", samples=32)
        return BASELINE.model_copy(
            update={"metrics": {**BASELINE.metrics, "quality.accuracy.onnx": metric}}
        )

    assert verdict(having(29), baseline=having(30)).passed
    assert not verdict(having(28), baseline=having(30)).passed


def test_a_recipe_says_which_way_a_score_goes():
    gate = Gate(higher_is_better=("quality.sheen.*",))

    def having(value):
        metric = Measurement(value=value, unit="points", samples=9)
        return BASELINE.model_copy(
            update={"metrics": {**BASELINE.metrics, "quality.sheen.onnx": metric}}
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
    decision = verdict(runs.evidence(artifacts=after), baseline=runs.evidence(artifacts=before))
    assert failed(decision) == {"artifact.onnx.dense.inputs.mask": "regressed"}


def test_what_the_baseline_does_not_have_is_listed_and_not_judged():
    more = {
        **BASELINE.metrics,
        "quality.accuracy.onnx": Measurement(value=0.1, unit="x", samples=1),
    }
    decision = verdict(BASELINE.model_copy(update={"metrics": more}))
    assert decision.passed
    assert [finding.name for finding in decision.findings if finding.status == "new"] == [
        "quality.accuracy.onnx"
    ]


def test_what_a_recipe_ignores_is_skipped():
    decision = verdict(runs.without(SPEEDUP), gate=Gate(ignore=("latency.onnx.*",)))
    assert decision.passed
    assert {finding.status for finding in decision.findings if "latency.onnx" in finding.name} == {
        "skipped"
    }


NOT_RUN = {"not_run": {"onnx": "no runtime here"}}


def test_a_target_that_was_not_run_fails_unless_the_baseline_says_so_too():
    left = {name: metric for name, metric in BASELINE.metrics.items() if ".onnx" not in name}
    now = BASELINE.model_copy(update={"metrics": left, **NOT_RUN})
    decision = verdict(now)
    assert SPEEDUP in failed(decision)
    assert (
        "no runtime here"
        in next(finding for finding in decision.failures if finding.name == SPEEDUP).detail
    )
    assert verdict(now, baseline=BASELINE.model_copy(update=NOT_RUN)).passed
    assert verdict(now, without_latency=True).passed


def test_without_latency_only_what_needs_no_clock_is_judged():
    slow = {
        name: metric.model_copy(update={"value": metric.value * 0.5})
        if name.startswith(("latency.", "memory."))
        else metric
        for name, metric in BASELINE.metrics.items()
    }
    now = BASELINE.model_copy(update={"metrics": slow})
    assert not verdict(now).passed
    decision = verdict(now, without_latency=True)
    assert decision.passed
    judged = {finding.kind for finding in decision.findings if finding.status == "ok"}
    assert judged == {"size", "quality", "parity", "shape"}
    assert not verdict(changed("quality.perplexity.onnx", 1.05), without_latency=True).passed
    assert not verdict(changed("size.bytes.pruned", 1.05), without_latency=True).passed
    assert not verdict(changed("parity.onnx.max_abs_error", 9.0), without_latency=True).passed


def test_without_latency_another_machine_is_told_and_not_refused():
    card = Gpu(name="H100", memory_bytes=1, compute_capability="9.0", driver_version="580")
    decision = verdict(runs.with_environment(gpus=(card,), cpu="other"), without_latency=True)
    assert decision.passed
    assert {difference.what for difference in decision.overruled} == {"cpu", "GPUs"}
