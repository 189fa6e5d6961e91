import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from numprune_export.numerics.divergence import divergence, log_probabilities


@given(seed=st.integers(0, 999), scale=st.sampled_from([0.1, 10.0, 1e4]))
def test_log_probabilities_are_torch_log_softmax_in_fp64(seed, scale):
    logits = np.random.default_rng(seed).normal(0, scale, (4, 17)).astype(np.float32)
    expected = torch.log_softmax(torch.from_numpy(logits).double(), dim=-1)
    # fp64 against fp64: only the rounding of numbers as large as the logits
    np.testing.assert_allclose(log_probabilities(logits), expected, rtol=1e-13, atol=1e-13)


@given(seed=st.integers(0, 999))
def test_divergence_is_kl_of_the_candidate_from_the_reference(seed):
    rng = np.random.default_rng(seed)
    reference, candidate = rng.normal(0, 3, (2, 5, 13)).astype(np.float32)
    p, q = (
        torch.softmax(torch.from_numpy(logits).double(), -1) for logits in (reference, candidate)
    )
    expected = torch.sum(p * torch.log(p / q), dim=-1)
    np.testing.assert_allclose(divergence(reference, candidate), expected, atol=1e-12)


def test_divergence_ignores_a_constant_and_knows_its_direction():
    reference = np.array([[0.0, 1.0, 2.0]], np.float32)
    candidate = np.array([[0.0, 5.0, 2.0]], np.float32)
    np.testing.assert_allclose(divergence(reference, reference + 7), 0, atol=1e-15)
    assert divergence(reference, candidate)[0] != divergence(candidate, reference)[0]
