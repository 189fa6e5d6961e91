"""LSMR against scipy's and the closed form."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import lsmr as scipys

from numprune_export.numerics.lsmr import lsmr


def system(n, seed, spread=0.1):
    generator = torch.Generator().manual_seed(seed)
    scale = 10 ** ((torch.rand(n, generator=generator) - 0.5) * spread)
    rows = torch.randn(8 * n, n, generator=generator, dtype=torch.float64) * scale
    return rows.T @ rows / n, torch.randn(n, generator=generator, dtype=torch.float64) * 5


@settings(max_examples=80)
@given(n=st.integers(1, 30), seed=st.integers(0, 59), damping=st.sampled_from([1.0, 10.0]))
def test_it_takes_scipys_steps_to_scipys_verdict(n, seed, damping):
    matrix, right = system(n, seed)
    x, stopped, *_ = scipys(matrix.numpy(), right.numpy(), damp=damping)
    solution = lsmr(matrix, right, damping)
    assert solution.converged == (stopped < 3)
    assert (solution.x - torch.from_numpy(x)).norm() <= 1e-4 * solution.x.norm()


@pytest.mark.parametrize("damping", [0.5, 1.0])
def test_where_it_converges_it_is_the_damped_least_squares_solution(damping):
    matrix, right = system(12, seed=1)
    solution = lsmr(matrix, right, damping)
    exact = torch.linalg.solve(matrix @ matrix + damping**2 * torch.eye(12), matrix @ right)
    assert solution.converged
    torch.testing.assert_close(solution.x, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_it_stops_when_scipys_stops_at_a_small_residual(seed):
    matrix, _ = system(30, seed)
    matrix = matrix * 1e9  # damping is nothing beside it: the system is consistent
    right = matrix @ torch.ones(30, dtype=torch.float64)
    x, stopped, steps, *_ = scipys(matrix.numpy(), right.numpy(), damp=1.0)
    assert stopped == 1
    assert steps < 30
    solution = lsmr(matrix, right, 1.0)
    assert solution.converged
    assert (solution.x - torch.from_numpy(x)).norm() < 1e-9 < (solution.x - 1).norm()


def test_a_badly_conditioned_system_does_not_converge():
    matrix, right = system(25, seed=2, spread=4.0)
    _, stopped, *_ = scipys(matrix.numpy(), right.numpy(), damp=1.0)
    assert stopped >= 3
    assert not lsmr(matrix, right, 1.0).converged


def test_nothing_on_the_right_and_a_matrix_of_nothing_give_nothing():
    matrix, right = system(3, seed=0)
    for a, b in ((matrix, right * 0), (matrix * 0, right)):
        solution = lsmr(a, b, 1.0)
        assert solution.converged
        assert solution.x.tolist() == [0, 0, 0]
