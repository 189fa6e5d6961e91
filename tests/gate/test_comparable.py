"""What makes two reports incomparable, each difference by its name."""

import pytest
from gate import runs

from numprune_export.gate.comparable import differences
from numprune_export.gate.judge import judge
from numprune_export.gate.limits import Gate
from numprune_export.gate.verdict import Mode
from numprune_export.measure.environment import Gpu

BASELINE = runs.evidence()
PACKAGES = BASELINE.environment.packages
CARD = Gpu(
    name="H100", memory_bytes=80 << 30, compute_capability="9.0", driver_version="580.1", cuda_version="13.0"
)  # fmt: skip


def refused(report, baseline=BASELINE, **mode):
    return {
        difference.what: difference.side
        for difference in judge(report, baseline, Gate(), Mode(**mode)).refused
    }


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"cpu": "Another CPU"}, "cpu"),
        ({"machine": "aarch64"}, "machine"),
        ({"usable_cores": 64}, "usable_cores"),
        ({"gpus": (CARD,)}, "GPUs"),
        ({"packages": {**PACKAGES, "onnxruntime": "1.99"}}, "package onnxruntime"),
        ({"packages": {**PACKAGES, "torch": "2.99"}}, "package torch"),
        ({"packages": {"torch": "2.13.0"}}, "package onnxruntime"),
        ({"packages": {**PACKAGES, "tensorrt": "10.9"}}, "package tensorrt"),
    ],
)
def test_another_machine_or_runtime_is_refused_and_can_be_overruled(change, what):
    other = runs.with_environment(**change)
    assert refused(other) == {what: "machine"}
    assert refused(other, other_machine=True) == {}
    verdict = judge(other, BASELINE, Gate(), Mode(other_machine=True))
    assert [difference.what for difference in verdict.overruled] == [what]
    assert verdict.passed


@pytest.mark.parametrize(
    "change", [{"name": "A100"}, {"driver_version": "550.2"}, {"cuda_version": "12.4"}]
)
def test_another_gpu_or_driver_is_refused(change):
    before = runs.with_environment(gpus=(CARD,))
    now = runs.with_environment(gpus=(CARD.model_copy(update=change),))
    (key,) = change
    assert refused(now, before) == {f"GPU 0 {key}": "machine"}


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("benchmark", {"samples": 9}),
        ("benchmark", {"threads": 8}),
        ("benchmark", {"prefill": 64}),
        ("benchmark", {"sessions": 1}),
        ("parity", {"tolerance": 0.1}),
    ],
)
def test_another_protocol_is_refused_and_can_be_overruled(section, change):
    other = runs.with_recipe(section, **change)
    (key,) = change
    side = "timing" if section == "benchmark" else "protocol"
    assert refused(other) == {f"{section}.{key}": side}
    still = {} if section == "benchmark" else {f"{section}.{key}": side}
    assert refused(other, without_latency=True) == still
    assert refused(other, other_machine=True) == {}


def test_another_dense_model_is_refused_whatever_is_allowed():
    other = runs.evidence(dense_sha256="c" * 64)
    for mode in ({}, {"other_machine": True}, {"without_latency": True}):
        assert refused(other, **mode) == {"dense model (sha256)": "model"}


def test_other_evaluation_texts_are_refused_whatever_is_allowed():
    other = runs.evidence(evaluation_sha256="c" * 64)
    assert refused(other, other_machine=True) == {"evaluation examples (sha256)": "texts"}


def test_reports_without_hashes_are_compared_by_what_they_say():
    """Reports of before: the model's name and size, the section of the evaluation."""
    old = {"dense_sha256": None, "evaluation_sha256": None}
    before = runs.evidence(**old)
    assert refused(runs.evidence(**old), before) == {}
    assert judge(runs.evidence(**old), before, Gate(), Mode()).notes
    renamed = runs.with_recipe("model", source="another").model_copy(update=old)
    assert refused(renamed, before) == {"model.source": "model"}
    assert refused(runs.with_recipe("model", source="another")) == {}
    larger = runs.with_metric("size.parameters.dense", value=7e9).model_copy(update=old)
    assert refused(larger, before) == {"size.parameters.dense": "model"}
    texts = runs.with_recipe("evaluation", sequences=4).model_copy(update=old)
    assert refused(texts, before) == {"evaluation.sequences": "texts"}


def test_every_difference_is_named_with_both_values():
    other = runs.with_environment(cpu="Another CPU", usable_cores=64)
    said = [str(difference) for difference in judge(other, BASELINE, Gate(), Mode()).refused]
    assert said == [
        "cpu: `Some CPU | with a pipe` in the baseline, `Another CPU` in the report",
        "usable_cores: `2` in the baseline, `64` in the report",
    ]


def test_what_a_gate_watches_is_told_and_not_refused():
    now = runs.with_environment(packages={**PACKAGES, "numprune-export": "0.2"}, python="3.12.0")
    now = now.model_copy(update={"recipe": {**now.recipe, "keep": 0.7}, "recipe_name": "other"})
    assert refused(now) == {}
    told = {difference.what for difference in differences(BASELINE, now)}
    assert told == {"package numprune-export", "python", "recipe keep", "recipe name"}


def test_across_machines_only_what_carries_over_is_judged():
    def slower(name, factor):
        metric = BASELINE.metrics[name]
        changed = metric.model_copy(update={"value": metric.value * factor})
        other = runs.with_environment(cpu="Another CPU")
        return other.model_copy(update={"metrics": {**other.metrics, name: changed}})

    def passes(name, factor):
        return judge(slower(name, factor), BASELINE, Gate(), Mode(other_machine=True)).passed

    assert passes("latency.onnx.prefill.pruned.p50_ms", 5)
    assert passes("memory.onnx.pruned.peak_bytes", 5)
    assert not passes("latency.onnx.prefill.speedup", 0.8)
    assert not passes("quality.perplexity.onnx", 1.1)
    assert not passes("size.bytes.pruned", 1.1)
    assert not passes("parity.onnx.max_abs_error", 99)
    assert not passes("latency.onnx.prefill.pruned.p50_ms", float("nan"))
