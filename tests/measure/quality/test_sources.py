"""Ratios of perplexity by text source: paired by window, with their geometric mean and the worst."""

import math

import numpy as np
import pytest

from numprune_export.core.metric import Metric
from numprune_export.measure.quality.paired_change import Scores
from numprune_export.measure.quality.perplexity import of_windows
from numprune_export.measure.quality.sources import ratios, source_scores

RNG = np.random.default_rng(0)
DENSE = {"news": RNG.normal(3, 1, 16), "code": RNG.normal(2, 1, 16)}
PRUNED = {
    name: nats + RNG.normal(lost, 0.02, 16)
    for (name, nats), lost in zip(DENSE.items(), (0.1, 0.4), strict=True)
}


def scores(nats):
    metrics = {f"perplexity.{name}": of_windows(own, 9, {}) for name, own in nats.items()}
    return Scores(metrics, nats=nats)


def test_a_ratio_is_that_of_the_perplexities_with_an_interval_paired_by_window():
    dense, pruned = scores(DENSE), scores(PRUNED)
    measured = ratios(pruned, dense)
    for name in DENSE:
        before, after = (model.metrics[f"perplexity.{name}"] for model in (dense, pruned))
        ratio = measured[f"perplexity_ratio.{name}"]
        assert ratio.value == pytest.approx(after.value / before.value)
        assert ratio.low < ratio.value < ratio.high
        # The windows differ by a standard deviation of 1, the models on a window by one of 0.02.
        assert math.log(ratio.high / ratio.low) < 0.1 * math.log(after.high / after.low)


def test_the_mean_is_geometric_with_sources_of_equal_weight_and_the_worst_is_named():
    few = {"news": DENSE["news"], "code": DENSE["code"][:4]}
    measured = ratios(
        scores({name: PRUNED[name][: len(nats)] for name, nats in few.items()}), scores(few)
    )
    news, code = (measured[f"perplexity_ratio.{name}"] for name in few)
    mean, worst = measured["perplexity_ratio.mean"], measured["perplexity_ratio.worst"]
    assert mean.value == pytest.approx(math.sqrt(news.value * code.value))
    assert mean.conditions["sources"] == 2
    assert math.log(mean.high / mean.value) == pytest.approx(
        math.hypot(*(math.log(ratio.high / ratio.value) for ratio in (news, code))) / 2
    )
    assert (worst.value, worst.low, worst.high) == (code.value, code.low, code.high)
    assert worst.conditions["worst"] == "code"


def test_a_single_window_has_a_ratio_without_an_interval_and_a_single_text_none():
    short = scores({name: nats[:1] for name, nats in DENSE.items()})
    assert {metric.low for metric in ratios(short, short).values()} == {None}
    single = Scores({"perplexity": Metric(9.0, "perplexity per token", 8)})
    assert ratios(single, single) == {}


class Uniform:
    """Logits that favour token 0."""

    def prefill(self, tokens, *, all_positions):
        logits = np.zeros((*tokens.shape, 4), dtype=np.float32)
        logits[..., 0] = 2
        return logits


def test_each_source_is_scored_by_its_own_windows_alone():
    sources = {"zeros": np.zeros((3, 5), dtype=np.int64), "ones": np.ones((2, 5), dtype=np.int64)}
    measured = source_scores(Uniform(), sources, batch=2)
    total = math.exp(2) + 3
    assert measured.metrics["perplexity.zeros"].value == pytest.approx(total / math.exp(2))
    assert measured.metrics["perplexity.ones"].value == pytest.approx(total)
    assert [len(nats) for nats in measured.nats.values()] == [3, 2]
    assert measured.metrics["perplexity.ones"].samples == 8
