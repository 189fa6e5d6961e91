"""Which points are worth it, on numbers made up for the purpose."""

import itertools
import math
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numprune_export.report.schema import Measurement, Report
from numprune_export.workflows.sweep import page
from numprune_export.workflows.sweep.points import Point
from numprune_export.workflows.sweep.summary import Outcomes, summarize
from numprune_export.workflows.sweep.trade_off import cost_of, costs_of, pareto, quality_of
from numprune_export.workflows.sweep.work import Failure


def metric(value, low=None, high=None, unit="ratio"):
    return Measurement(value=value, unit=unit, samples=20, low=low, high=high)


def decoder(perplexity, prefill, decode, size):
    return {
        "size.parameters.dense": metric(100, unit="parameters"),
        "size.parameters.pruned": metric(100 * size, unit="parameters"),
        "size.bytes.ratio": metric(size),
        "size.onnx.bytes.ratio": metric(size),
        "quality.perplexity.dense": metric(10, unit="perplexity per token"),
        "quality.perplexity.masked": metric(5 * perplexity, unit="perplexity per token"),
        "quality.perplexity.pruned": metric(perplexity, unit="perplexity per token"),
        "quality.perplexity.onnx": metric(perplexity, unit="perplexity per token"),
        "latency.onnx.prefill.speedup": metric(prefill, prefill - 0.1, prefill + 0.1),
        "latency.onnx.decode.speedup": metric(decode, decode - 0.1, decode + 0.1),
        "latency.torch.prefill.speedup": metric(9.0),
        "latency.torch.decode.speedup": metric(9.0),
    }


def encoder(accuracy, speeds):
    shapes = {
        f"latency.onnx.forward.b{batch}.l16.speedup": metric(speedup) for batch, speedup in speeds
    }
    return {
        "size.onnx.bytes.ratio": metric(0.6),
        "quality.accuracy.dense": metric(0.9, unit="fraction"),
        "quality.accuracy.pruned": metric(accuracy, unit="fraction"),
        "quality.accuracy.onnx": metric(accuracy, unit="fraction"),
        "quality.loss.dense": metric(0.3, unit="nats"),
        "quality.loss.onnx": metric(0.4, unit="nats"),
        **shapes,
    }


def report_of(metrics, environment):
    return Report(
        created=datetime.now(timezone.utc), recipe_name="made-up", summary="", metrics=metrics,
        plan=(), recipe={}, environment=environment, artifacts={},
    )  # fmt: skip


@pytest.fixture
def sweep_of(recipe, environment):
    def make(named, failures=None, waiting=()):
        names = [*named, *(failures or {}), *waiting]
        points = [Point(name, recipe, ()) for name in names]
        reports = {name: report_of(metrics, environment) for name, metrics in named.items()}
        return summarize("made-up", points, Outcomes(reports, failures or {}))

    return make


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8))
def test_what_is_marked_is_what_nothing_beats(trades):
    marks = pareto(trades)
    for (quality, saving), marked in zip(trades, marks, strict=True):
        beaten = any(
            trade[0] >= quality and trade[1] >= saving and trade != (quality, saving)
            for trade in trades
        )
        assert marked == (not beaten)
    assert any(marks)


def test_what_was_not_measured_is_never_worth_it():
    assert pareto([None, (math.nan, 9.0), (1.0, 1.0)]) == [False, False, True]
    assert pareto([None]) == [False]


def test_points_are_marked_per_cost_and_dense_takes_part(sweep_of):
    sweep = sweep_of(
        {
            "good": decoder(11, 1.5, 1.4, 0.8),
            "small": decoder(20, 2.0, 1.2, 0.5),
            "useless": decoder(30, 0.9, 0.9, 0.9),
        }
    )
    optimal = {point.name: point.optimal for point in sweep.points}
    assert [cost.key for cost in sweep.costs] == ["onnx.prefill", "onnx.decode", "size"]
    assert optimal["good"] == ("onnx.prefill", "onnx.decode", "size")
    assert optimal["small"] == ("onnx.prefill", "size")
    assert optimal["useless"] == ()
    assert sweep.dense_optimal == ("onnx.prefill", "onnx.decode", "size")
    assert (sweep.quality, sweep.quality_of, sweep.lower_is_better) == ("perplexity", "onnx", True)


def test_a_faster_better_point_beats_the_dense_model(sweep_of):
    sweep = sweep_of({"better": decoder(9.5, 1.5, 1.5, 0.8)})
    assert sweep.dense_optimal == ()


def test_text_sources_are_compared_by_their_mean_with_the_worst_beside_it(sweep_of):
    named = {}
    for name, ratio, size in (("good", 1.1, 0.8), ("small", 1.5, 0.5), ("useless", 1.6, 0.9)):
        rest = {key: value for key, value in decoder(9, 1, 1, size).items() if "quality" not in key}
        worst = metric(2 * ratio).model_copy(update={"conditions": {"worst": "code"}})
        named[name] = rest | {
            "quality.perplexity.code.dense": metric(10),
            "quality.perplexity.code.onnx": metric(20 * ratio),
            "quality.perplexity_ratio.mean.onnx": metric(ratio),
            "quality.perplexity_ratio.worst.onnx": worst,
        }
    sweep = sweep_of(named)
    assert (sweep.quality, sweep.lower_is_better) == ("perplexity_ratio.mean", True)
    optimal = {point.name: "size" in point.optimal for point in sweep.points}
    assert optimal == {"good": True, "small": True, "useless": False}
    assert "size" in sweep.dense_optimal
    header, _, dense, good, *_ = page.table_of(sweep).splitlines()
    assert [cell.strip() for cell in header.split("|")[4:6]] == [
        "mean perplexity ratio (onnx)",
        "worst source",
    ]
    assert [cell.strip() for cell in dense.split("|")[4:6]] == ["1", "-"]
    assert [cell.strip() for cell in good.split("|")[4:6]] == ["1.1", "2.2 on code"]


def test_higher_is_better_for_a_task_and_shapes_are_one_cost(sweep_of):
    named = {
        "sure": encoder(0.89, [(1, 1.0), (8, 4.0)]),
        "fast": encoder(0.80, [(1, 2.0), (8, 8.0)]),
        "bad": encoder(0.70, [(1, 2.0), (8, 2.0)]),
    }
    sweep = sweep_of(named)
    speed = sweep.costs[0]
    assert (sweep.quality, sweep.lower_is_better) == ("accuracy", False)
    assert speed.key == "onnx.forward"
    assert "mean of 2 shapes" in speed.label
    mean = cost_of(speed, named["fast"])
    assert (mean.value, mean.low, mean.high) == (pytest.approx(4.0), 2.0, 8.0)
    optimal = {point.name: point.optimal for point in sweep.points}
    assert "onnx.forward" in optimal["sure"]
    assert "onnx.forward" in optimal["fast"]
    assert optimal["bad"] == ()


def test_a_cost_with_a_missing_metric_is_not_measured():
    whole = decoder(11, 1.5, 1.4, 0.8)
    costs = costs_of(whole)
    del whole["latency.onnx.decode.speedup"]
    assert [cost_of(cost, whole) is None for cost in costs] == [False, True, False]


def test_without_quality_nothing_is_compared():
    assert quality_of({"size.bytes.ratio": metric(0.5)}) is None


def test_equal_sizes_are_not_told_apart_by_some_bytes(sweep_of):
    sweep = sweep_of({"a": decoder(11, 1.0, 1.0, 0.80001), "b": decoder(12, 1.0, 1.0, 0.80000)})
    assert [("size" in point.optimal) for point in sweep.points] == [True, False]


def test_the_page_shows_dense_first_failures_and_what_waits(sweep_of):
    failure = Failure("it fell over", "pick it up", 4)
    sweep = sweep_of({"good": decoder(11, 1.5, 1.4, 0.8)}, {"bad": failure}, ["later"])
    text = page.render(sweep)
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert [row.split("|")[1].strip() for row in rows] == ["dense", "good", "bad", "later"]
    assert "1.10x" in rows[1] or "1.100x" in rows[1]
    assert "1.40x (1.30 to 1.50)" in rows[1]
    assert rows[2].rstrip(" |").endswith("failed")
    assert rows[3].rstrip(" |").endswith("waiting")
    assert "`bad`: it fell over (exit 4); pick it up" in text
    assert "1 done, 1 failed, 1 waiting" in text


def test_the_picture_is_the_same_for_the_same_sweep_and_names_every_cost(sweep_of):
    from numprune_export.workflows.sweep import plot

    sweep = sweep_of(
        {f"p{index}": decoder(10 + index, 1 + index / 4, 1.2, 0.9) for index in range(3)}
    )
    first, two = plot.draw(sweep), plot.draw(sweep)
    assert first == two
    assert first.startswith("<?xml")
    for cost, word in itertools.product(sweep.costs, ["perplexity of onnx", "dense"]):
        assert cost.label in first
        assert word in first


def test_there_is_no_picture_of_nothing(sweep_of):
    from numprune_export.workflows.sweep import plot

    assert plot.draw(sweep_of({}, {"bad": Failure("x", "y", 1)})) is None
