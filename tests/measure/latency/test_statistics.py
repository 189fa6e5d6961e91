import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numprune_export.measure.latency.statistics import Ratio, percentile, ratio_of_medians


@given(st.lists(st.floats(0.1, 1e3), min_size=1, max_size=40), st.sampled_from([50, 90, 99]))
def test_percentile_interpolates_between_order_statistics(times, rank):
    ordered = sorted(times)
    place = (len(ordered) - 1) * rank / 100
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    expected = below + (above - below) * (place - math.floor(place))
    assert percentile(np.array(times), rank) == pytest.approx(expected)


def timings(rng, rounds: int, speedup: float):
    """Noise of 5 % per timing on a drift of 30 % that the two timings of a round share."""
    drift = np.exp(rng.normal(0, 0.3, rounds))
    dense = 10 * speedup * drift * np.exp(rng.normal(0, 0.05, rounds))
    pruned = 10 * drift * np.exp(rng.normal(0, 0.05, rounds))
    return dense, pruned


@pytest.mark.parametrize("speedup", [1.0, 1.31])
def test_the_interval_holds_the_truth_about_19_times_in_20(speedup):
    rng = np.random.default_rng(3)
    intervals = [
        ratio_of_medians(*timings(rng, 20, speedup), seed=trial, resamples=400)
        for trial in range(400)
    ]
    held = np.mean([interval.low <= speedup <= interval.high for interval in intervals])
    assert 0.92 <= held <= 0.995
    # and it is worth having: far narrower than the drift
    assert np.median([interval.high / interval.low for interval in intervals]) < 1.45


def test_a_clear_speedup_is_significant_and_no_speedup_is_not():
    rng = np.random.default_rng(4)
    assert ratio_of_medians(*timings(rng, 20, 2.0)).significant
    times, _ = timings(rng, 20, 1.0)
    same = ratio_of_medians(times, times.copy())
    assert (same.value, same.low, same.high, same.significant) == (1, 1, 1, False)


def test_rounds_are_resampled_together():
    """Whatever a round's pace, both sides share it: a constant ratio has no spread at all."""
    pace = np.random.default_rng(5).uniform(1, 50, 15)
    ratio = ratio_of_medians(1.4 * pace, pace)
    assert ratio.value == pytest.approx(1.4)
    assert ratio.high - ratio.low < 1e-12


def test_value_is_dense_over_pruned_medians_and_the_seed_decides_the_rest():
    dense, pruned = np.array([9.0, 2, 4, 100, 3]), np.array([2.0, 2, 1, 3, 50])
    ratio = ratio_of_medians(dense, pruned, seed=1)
    assert ratio.value == 2  # 4 / 2
    assert ratio == ratio_of_medians(dense, pruned, seed=1)
    assert ratio.low < ratio.value < ratio.high


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.9, 1.1, False), (1.01, 1.2, True), (0.8, 0.99, True), (1.0, 1.2, False)],
)
def test_significant_means_the_interval_excludes_one(low, high, expected):
    assert Ratio(1.0, low, high).significant is expected
