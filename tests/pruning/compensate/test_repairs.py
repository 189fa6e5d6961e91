"""Compensation is the minimum of what its paper minimises."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from numprune_export.calibration.statistics import Statistics
from numprune_export.pruning.compensate.bias import Bias
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.pruning.compensate.none import Nothing


def problem(n, kept, seed, tokens=None):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(n, n, generator=generator, dtype=torch.float64)
    x = (torch.randn(tokens or 6 * n, n, generator=generator, dtype=torch.float64) + 1) @ mix
    weight = torch.randn(4, n, generator=generator, dtype=torch.float64)
    return weight, x, Statistics(x.T @ x, x.sum(0), len(x)), torch.tensor(sorted(kept))


def error(x, weight, small, kept, bias=None):
    out = x[:, kept] @ small.T + (0 if bias is None else bias)
    return (x @ weight.T - out).square().sum().item()


@given(data=st.data(), n=st.integers(2, 14), seed=st.integers(0, 999))
def test_closed_form_is_eq_11_as_printed(data, n, seed):
    kept = data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=n - 1))
    weight, _, statistics, index = problem(n, kept, seed)
    small, _ = ClosedForm(damping=1e-13)(weight, None, statistics, index)

    removed = [j for j in range(n) if j not in kept]
    selector = torch.eye(n, dtype=torch.float64)[:, removed]  # M_p, one-hot columns
    inverse = torch.linalg.inv(2 * statistics.gram)
    change = -inverse @ selector @ torch.linalg.inv(selector.T @ inverse @ selector) @ selector.T
    expected = (weight.T + change @ weight.T).T

    torch.testing.assert_close(small, expected[:, index], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        expected[:, removed], torch.zeros(4, len(removed), dtype=torch.float64), rtol=0, atol=1e-6
    )


@given(data=st.data(), n=st.integers(3, 12), seed=st.integers(0, 99))
def test_closed_form_minimises_error_plus_ridge_on_the_change(data, n, seed):
    kept = data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=n - 1))
    weight, x, statistics, index = problem(n, kept, seed)
    small, _ = ClosedForm(damping=0.05)(weight, None, statistics, index)

    trial = small.clone().requires_grad_()
    ridge = 0.05 * statistics.gram.diagonal().mean()
    loss = (x @ weight.T - x[:, index] @ trial.T).square().sum()
    loss = loss + ridge * (trial - weight[:, index]).square().sum()
    (gradient,) = torch.autograd.grad(loss, trial)

    assert gradient.abs().max() < 1e-7 * statistics.gram.diagonal().mean()


@given(data=st.data(), n=st.integers(3, 12), seed=st.integers(0, 99))
def test_affine_minimises_error_plus_ridge_over_weight_and_bias(data, n, seed):
    kept = data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=n - 1))
    weight, x, statistics, index = problem(n, kept, seed)
    own = torch.arange(4, dtype=torch.float64)
    small, bias = ClosedForm(damping=0.05, affine=True)(weight, own, statistics, index)

    trial, shift = small.clone().requires_grad_(), bias.clone().requires_grad_()
    ridge = 0.05 * statistics.variance.mean() * len(x)
    lost = x @ weight.T + own - x[:, index] @ trial.T - shift
    loss = lost.square().sum() + ridge * (trial - weight[:, index]).square().sum()
    for gradient in torch.autograd.grad(loss, (trial, shift)):
        assert gradient.abs().max() < 1e-7 * statistics.gram.diagonal().mean()


def test_affine_gives_a_bias_to_a_layer_without_one_and_is_never_worse():
    weight, x, statistics, kept = problem(9, {0, 3, 4, 8}, seed=6)
    small, bias = ClosedForm(damping=1e-9, affine=True)(weight, None, statistics, kept)
    plain, _ = ClosedForm(damping=1e-9)(weight, None, statistics, kept)
    assert error(x, weight, small, kept, bias) < error(x, weight, plain, kept)


def test_a_removed_copy_of_a_kept_input_costs_nothing():
    weight, x, _, kept = problem(6, {0, 1, 2, 3, 4}, seed=1)
    x[:, 5] = x[:, 2]
    statistics = Statistics(x.T @ x, x.sum(0), len(x))
    small, _ = ClosedForm(damping=1e-12)(weight, None, statistics, kept)
    assert error(x, weight, small, kept) < 1e-12 * error(x, weight, weight[:, kept], kept)


def test_heavy_damping_fades_to_no_compensation():
    weight, _, statistics, kept = problem(8, {0, 2, 5}, seed=2)
    small, _ = ClosedForm(damping=1e12)(weight, None, statistics, kept)
    torch.testing.assert_close(small, weight[:, kept], rtol=1e-6, atol=1e-6)


def test_closed_form_survives_fewer_tokens_than_inputs_and_no_signal_at_all():
    weight, x, statistics, kept = problem(12, set(range(9)), seed=3, tokens=4)
    small, _ = ClosedForm()(weight, None, statistics, kept)
    assert error(x, weight, small, kept) < error(x, weight, weight[:, kept], kept)

    silent = Statistics(torch.zeros(12, 12), torch.zeros(12, dtype=torch.float64), 4)
    small, _ = ClosedForm()(weight, None, silent, kept)
    torch.testing.assert_close(small, weight[:, kept])


@pytest.mark.parametrize("own", [None, torch.arange(4, dtype=torch.float64)])
def test_bias_is_the_best_constant(own):
    weight, x, statistics, kept = problem(7, {1, 4}, seed=4)
    small, bias = Bias()(weight, own, statistics, kept)
    torch.testing.assert_close(small, weight[:, kept])
    lost = (x @ weight.T) - x[:, kept] @ weight[:, kept].T
    torch.testing.assert_close(bias, lost.mean(0) + (0 if own is None else own))


def test_closed_form_leaves_the_bias_alone_and_none_leaves_all():
    weight, _, statistics, kept = problem(5, {0, 3}, seed=5)
    own = torch.ones(4, dtype=torch.float64)
    assert ClosedForm()(weight, own, statistics, kept)[1] is own
    small, bias = Nothing()(weight, own, None, kept)
    assert torch.equal(small, weight[:, kept])
    assert bias is own


@pytest.mark.parametrize("repair", [ClosedForm(), Bias(), Nothing()])
def test_the_weight_keeps_its_dtype(repair):
    weight, _, statistics, kept = problem(5, {0, 3}, seed=6)
    small, bias = repair(weight.bfloat16(), None, statistics, kept)
    assert small.dtype is torch.bfloat16
    assert bias is None or bias.dtype is torch.bfloat16
