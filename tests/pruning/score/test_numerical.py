"""The numerical score against Eq. 3 and Algorithm 1 as printed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from numprune_export.calibration.statistics import Statistics
from numprune_export.pruning.score.numerical import Numerical


def problem(n: int, seed: int, tokens: int | None = None):
    """A layer's weight (out, n) and the statistics of correlated inputs X (tokens, n)."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(n, n, generator=generator, dtype=torch.float64)
    x = torch.randn(tokens or 4 * n, n, generator=generator, dtype=torch.float64) @ mix
    weight = torch.randn(5, n, generator=generator, dtype=torch.float64)
    return weight, Statistics(x.T @ x, x.sum(0), len(x)), x


def loss(z, weight, x, penalty, kept):
    """Eq. 3 from the paper: W there is `weight.T`."""
    w = weight.T
    error = x @ w - x @ (z[:, None] * w)
    return 0.5 * error.square().sum() + 0.5 * penalty * (z.sum() - kept) ** 2


def score(scorer, weight, statistics, keep):
    return scorer(weight, statistics, keep=keep, generator=torch.Generator())


@given(n=st.integers(2, 24), seed=st.integers(0, 999), keep=st.floats(0.1, 1.0))
def test_closed_form_is_the_minimum_of_eq_3(n, seed, keep):
    weight, statistics, x = problem(n, seed)
    x = x / torch.linalg.matrix_norm(x, ord=2)
    z = score(Numerical(penalty=2.0, damping=0.0), weight, statistics, keep).requires_grad_()

    (gradient,) = torch.autograd.grad(loss(z, weight, x, 2.0, keep * n), z)

    assert gradient.abs().max() < 1e-8


@settings(max_examples=25)
@given(n=st.integers(2, 16), seed=st.integers(0, 999), steps=st.integers(1, 50))
def test_the_papers_loop_gives_the_closed_form(n, seed, steps):
    weight, statistics, _ = problem(n, seed)
    closed = score(Numerical(penalty=1.0), weight, statistics, 0.6)
    looped = score(Numerical(penalty=1.0, iterations=steps), weight, statistics, 0.6)
    torch.testing.assert_close(looped, closed, rtol=1e-6, atol=1e-6)


def test_the_hard_constraint_is_the_limit_of_a_large_penalty():
    weight, statistics, _ = problem(12, seed=3)
    hard = score(Numerical(), weight, statistics, 0.7)
    large = score(Numerical(penalty=1e9), weight, statistics, 0.7)
    torch.testing.assert_close(hard, large, rtol=1e-5, atol=1e-5)
    assert hard.mean().item() == pytest.approx(0.7)


def test_penalty_and_keep_never_change_the_order_within_a_site():
    weight, statistics, _ = problem(16, seed=1)
    orders = {
        tuple(score(Numerical(penalty=p), weight, statistics, keep).argsort().tolist())
        for p in (None, 0.01, 1.0, 100.0)
        for keep in (0.5, 0.9)
    }
    assert len(orders) == 1


def test_scaling_the_input_changes_nothing():
    weight, statistics, _ = problem(9, seed=2)
    scaled = Statistics(statistics.gram * 1e6, statistics.shifted_total * 1e3, statistics.tokens)
    for scorer in (Numerical(), Numerical(penalty=0.3)):
        torch.testing.assert_close(
            score(scorer, weight, scaled, 0.5), score(scorer, weight, statistics, 0.5)
        )


def test_uncorrelated_inputs_rank_by_weight_times_activation():
    """With A diagonal, 1 − z_j is proportional to 1 / (‖X_j‖²‖W_j‖²)."""
    gram = torch.diag(torch.tensor([1.0, 4.0, 9.0, 2.0], dtype=torch.float64))
    weight = torch.tensor([[1.0, 1.0, 0.1, 3.0]], dtype=torch.float64)
    statistics = Statistics(gram, torch.zeros(4, dtype=torch.float64), 10)
    z = score(Numerical(damping=0.0), weight, statistics, 0.5)
    product = gram.diagonal() * weight.square().sum(0)
    torch.testing.assert_close((1 - z) * product, (1 - z[0]) * product[0].expand(4))


@pytest.mark.parametrize("dead", ["input", "weight", "everything"])
def test_a_singular_hessian_scores_what_is_dead_lowest(dead):
    weight, _, x = problem(10, seed=4)
    if dead == "weight":
        weight[:, 3] = 0
    elif dead == "input":
        x[:, 3] = 0
    else:
        x[:] = 0
    z = score(Numerical(), weight, Statistics(x.T @ x, x.sum(0), len(x)), 0.5)
    assert torch.isfinite(z).all()
    if dead == "everything":
        torch.testing.assert_close(z, torch.full_like(z, 0.5))
    else:
        assert z.argmin() == 3


def test_clip_puts_every_score_in_the_box():
    weight, statistics, _ = problem(20, seed=0)
    free = score(Numerical(), weight, statistics, 0.3)
    boxed = score(Numerical(clip=True), weight, statistics, 0.3)
    assert free.min() < 0
    torch.testing.assert_close(boxed, free.clamp(0, 1))


def test_the_loop_needs_a_finite_penalty():
    with pytest.raises(ValidationError, match="penalty"):
        Numerical(iterations=50)
