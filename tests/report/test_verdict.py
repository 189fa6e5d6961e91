import pytest
from report import sample

from numprune_export.core.metric import Metric
from numprune_export.report.schema import Measurement, measurements
from numprune_export.report.verdict import scores, significant, speed, summarize, targets, timed


def ratio(value, low, high) -> Measurement:
    return Measurement(value=value, unit="ratio", samples=20, low=low, high=high)


@pytest.mark.parametrize(
    ("speedup", "expected"),
    [
        (ratio(1.4, 1.3, 1.5), "is 1.40x faster (95 % interval 1.30 to 1.50)"),
        (ratio(0.5, 0.4, 0.8), "is 2.00x slower (95 % interval 1.25 to 2.50)"),
        (
            ratio(1.2, 0.99, 1.4),
            "shows no significant speed-up (1.20x, 95 % interval 0.99 to 1.40)",
        ),
        (
            ratio(1.2, 1.0, 1.4),
            "shows no significant speed-up (1.20x, 95 % interval 1.00 to 1.40)",
        ),
        (
            ratio(0.9, 0.8, 1.0),
            "shows no significant speed-up (0.90x, 95 % interval 0.80 to 1.00)",
        ),
        (ratio(1.2, None, None), "is 1.20x, without a confidence interval"),
    ],
)
def test_only_an_interval_without_one_is_called_faster_or_slower(speedup, expected):
    assert speed(speedup) == expected
    assert significant(speedup) is ("faster" in expected or "slower" in expected)


def test_the_verdict_is_one_sentence_with_size_speed_and_quality():
    assert summarize(measurements(sample.metrics()), {}) == (
        "23.9 % fewer parameters (134.5 M to 102.4 M); on onnx prefill is 1.41x faster (95 %"
        " interval 1.38 to 1.44) and decode shows no significant speed-up (1.01x, 95 % interval"
        " 0.97 to 1.05); perplexity 18.2 dense → 60.1 masked → 25.3 pruned → 25.31 onnx."
    )


def test_what_was_not_measured_is_said():
    assert summarize({}, {}) == "Size not measured; speed not measured; quality not measured."


def test_torch_is_told_only_if_it_is_all_there_is():
    rows = measurements(sample.timed("torch", "decode", 30.0, 20.0, 1.4, 1.6))
    assert "on torch decode is 1.50x faster" in summarize(rows, {})


def test_scores_are_told_in_pipeline_order_the_one_that_counts_first():
    names = ["onnx", "pruned", "dense", "masked", "abc"]
    metrics = measurements(
        {
            f"quality.{score}.{name}": Metric(1.0, "", 1)
            for score in ("matthews", "loss")
            for name in names
        }
    )
    by_score = scores(metrics)
    assert list(by_score) == ["matthews", "loss"]
    assert list(by_score["loss"]) == ["dense", "masked", "pruned", "abc", "onnx"]
    assert "matthews 1 dense → 1 masked → 1 pruned" in summarize(metrics, {})


def test_many_shapes_are_told_as_a_range_and_phase_by_phase():
    metrics = {
        f"latency.{target}.forward.b{batch}.l16.speedup": ratio(1 + batch / 10, low, 2)
        for batch, low in ((1, 0.9), (8, 1.2), (32, 1.5))
        for target in ("torch", "onnx")
    }
    told = "on onnx 1.10x to 4.20x as fast over 3 shapes, significantly faster at 2 of them"
    assert told in summarize(metrics, {})
    assert [phase for phase, target, _ in timed(metrics) if target == "onnx"] == [
        "forward b1 l16",
        "forward b8 l16",
        "forward b32 l16",
    ]


def test_the_torch_reference_comes_last():
    metrics = {
        f"latency.{name}.decode.speedup": ratio(1, 1, 1) for name in ("trt", "torch", "onnx")
    }
    assert targets(metrics, "latency") == ["onnx", "trt", "torch"]


def test_rows_of_torch_on_a_gpu_are_references_too():
    metrics = {
        f"latency.{name}.decode.speedup": ratio(1, 1, 1)
        for name in ("torch-cuda-compiled", "trt", "torch-cuda")
    }
    assert targets(metrics, "latency") == ["trt", "torch-cuda", "torch-cuda-compiled"]
    assert "torch" not in summarize(metrics, {})
