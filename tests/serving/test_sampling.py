"""Sampling: the distributions are those of the definitions, draws follow them and repeat by seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from numprune_exporters.triton.served.request import Request
from numprune_exporters.triton.served.sampling import Sampler, probabilities

LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3], np.float32))
any_logits = arrays(np.float32, st.integers(1, 30), elements=st.floats(-50, 50, width=32))


def test_temperature_one_gives_the_models_own_probabilities():
    np.testing.assert_allclose(probabilities(LOGITS, 1, 0, 1), [0.1, 0.4, 0.2, 0.3], rtol=1e-6)


def test_temperature_is_a_power_of_the_probabilities():
    powers = np.array([0.1, 0.4, 0.2, 0.3]) ** 2
    np.testing.assert_allclose(probabilities(LOGITS, 0.5, 0, 1), powers / powers.sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("top_k", "top_p", "expected"),
    [
        (2, 1, [0, 4 / 7, 0, 3 / 7]),
        (1, 1, [0, 1, 0, 0]),
        (9, 1, [0.1, 0.4, 0.2, 0.3]),
        (0, 0.39, [0, 1, 0, 0]),
        (0, 0.5, [0, 4 / 7, 0, 3 / 7]),
        (0, 0.75, [0, 4 / 9, 2 / 9, 3 / 9]),
        (3, 0.9, [0, 4 / 9, 2 / 9, 3 / 9]),
        (2, 0.5, [0, 1, 0, 0]),
    ],
)
def test_top_k_and_top_p_cut_and_scale(top_k, top_p, expected):
    np.testing.assert_allclose(probabilities(LOGITS, 1, top_k, top_p), expected, rtol=1e-6)


@given(any_logits, st.floats(1e-6, 100), st.integers(0, 40), st.floats(1e-6, 1))
def test_any_logits_give_a_distribution_that_holds_the_most_likely(logits, heat, top_k, top_p):
    odds = probabilities(logits, heat, top_k, top_p)
    assert np.isfinite(odds).all()
    assert odds.sum() == pytest.approx(1)
    assert odds[logits.argmax()] > 0
    if top_k:
        assert (odds > 0).sum() <= top_k


def test_draws_follow_the_probabilities_and_repeat_by_seed():
    def draw(seed):
        sampler = Sampler(Request("", 1, temperature=1.0, seed=seed))
        return [sampler.choose(LOGITS) for _ in range(4000)]

    assert draw(3) == draw(3) != draw(4)
    counts = np.bincount(draw(3), minlength=4) / 4000
    np.testing.assert_allclose(counts, [0.1, 0.4, 0.2, 0.3], atol=0.03)


def test_greedy_is_the_first_of_the_largest():
    assert Sampler(Request("", 1)).choose(np.array([1, 3, 3], np.float32)) == 1
