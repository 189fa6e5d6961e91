"""Every finite symmetric matrix has a factor, and well-conditioned ones the exact one."""

import ast
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import numprune_export
from numprune_export.core.errors import NumericalError
from numprune_export.numerics import least_squares
from numprune_export.numerics.least_squares import cholesky, damp, mean_ridge, ridge, ridge_solve


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rank_deficient(x):
    return x[:, :2] @ normal(1, 2, x.shape[1])


def constant_rows(x):
    return x[:1].expand_as(x)


def repeated_rows(x):
    return x[:3].repeat(len(x) // 3, 1)


def repeated_inputs(x):
    return x[:, [0] * x.shape[1]]


def silent(x):
    return 0 * x


def wide_range(x):
    return x * torch.logspace(-8, 8, x.shape[1]).double()


DEGENERATE = [rank_deficient, constant_rows, repeated_rows, repeated_inputs, silent, wide_range]


@settings(max_examples=25)
@given(inputs=st.integers(1, 9), seed=st.integers(0, 99), damping=st.sampled_from([1e-3, 1.0, 50]))
def test_ridge_is_the_minimum_over_the_rows_with_the_ridge_as_further_rows(inputs, seed, damping):
    x, b, prior = normal(seed, 40, inputs), normal(seed + 1, 40, 3), normal(seed + 2, 3, inputs)
    solution = ridge(x.T @ x, b.T @ x, prior, damping)
    tall = torch.cat([x, damping**0.5 * torch.eye(inputs)])
    target = torch.cat([b, damping**0.5 * prior.T])
    expected = torch.linalg.lstsq(tall, target).solution.T
    torch.testing.assert_close(solution, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("make", DEGENERATE)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_fit_of_degenerate_inputs_is_finite_and_no_further_than_the_prior(make, dtype):
    """The Gram rounded to a dtype, as if products had been: it is indefinite by so much."""
    x, prior = make(normal(0, 60, 24)), normal(2, 5, 24)
    b = x @ normal(3, 24, 5)
    gram, cross = ((rows.T @ x).to(dtype).double() for rows in (x, b))
    unit = torch.finfo(dtype).eps
    solution = ridge(gram, cross, prior, mean_ridge(gram, 1e-2), rounding=24 * unit)
    assert torch.isfinite(solution).all()
    before, after = (float((x @ weight.T - b).square().sum()) for weight in (prior, solution))
    assert after <= before


@pytest.mark.parametrize("make", DEGENERATE)
def test_a_factor_of_what_is_semi_definite_is_that_of_it_up_to_rounding(make):
    x = make(normal(0, 60, 24))
    gram = x.T @ x
    factor = cholesky(gram)
    scale = gram.diagonal().sqrt()
    scaled = (factor @ factor.T - gram) / torch.outer(scale, scale).clamp_min(1e-300)
    if make is not silent:
        assert scaled.abs().max() < 1e-10
    assert torch.isfinite(factor).all()
    assert torch.equal(factor, factor.tril())


def test_a_positive_definite_matrix_is_not_changed():
    gram = normal(0, 60, 24).T @ normal(0, 60, 24)
    assert torch.equal(cholesky(gram), torch.linalg.cholesky(gram))
    right = normal(1, 24, 3)
    torch.testing.assert_close(
        ridge_solve(gram.clone(), right, 0.5), torch.linalg.solve(gram + 0.5 * torch.eye(24), right)
    )
    torch.testing.assert_close(least_squares.inverse(gram), torch.linalg.inv(gram))


@settings(max_examples=50)
@given(
    size=st.integers(1, 8),
    seed=st.integers(0, 99),
    scale=st.sampled_from([1e-30, 1.0, 1e30]),
    batch=st.integers(1, 3),
)
def test_every_finite_symmetric_matrix_has_a_factor(size, seed, scale, batch):
    """However indefinite, each of a batch, and those that are definite keep theirs."""
    any_, root = normal(seed, batch, size, size), normal(seed + 1, size, size + 2)
    definite = root @ root.T * scale
    matrices = torch.cat([scale * (any_ + any_.mT), definite[None]])
    factors = cholesky(matrices)
    assert torch.isfinite(factors).all()
    assert (factors.diagonal(dim1=-2, dim2=-1) > 0).all()
    torch.testing.assert_close(factors[-1], torch.linalg.cholesky(definite))


def test_the_ridge_of_an_input_is_at_least_the_rounding_of_its_own_square():
    gram = torch.diag(torch.tensor([1.0, 1e6])).double()
    solution = ridge_solve(gram.clone(), torch.ones(2, 1).double(), 0.1, rounding=1e-3)
    expected = torch.tensor([[1 / 1.1], [1 / (1e6 + 1e3)]]).double()
    torch.testing.assert_close(solution, expected)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
@pytest.mark.parametrize(
    "solve",
    [cholesky, least_squares.inverse, least_squares.square_root, least_squares.eigen],
)
def test_what_is_not_finite_is_refused(wrong, solve):
    for row, column in ((1, 1), (2, 0), (0, 0)):
        gram = torch.eye(3).double()
        gram[row, column] = gram[column, row] = wrong
        with pytest.raises(NumericalError, match="NaN or infinite") as raised:
            solve(gram)
        assert raised.value.exit_code == 5


@pytest.mark.parametrize("rank", [1, 3, 24])
def test_the_square_root_of_few_outer_products_is_one(rank):
    rows = normal(0, rank, 24)
    metric = rows.T @ rows
    root = least_squares.square_root(metric)
    torch.testing.assert_close(root @ root.T, metric, rtol=1e-9, atol=1e-9)


def test_a_ridge_is_relative_to_the_mean_square_and_one_of_nothing_is_there():
    assert mean_ridge(torch.diag(torch.tensor([1.0, 3.0])), 0.1) == pytest.approx(0.2)
    assert mean_ridge(torch.zeros(3, 3), 0.1) == 0.1


PACKAGE = Path(numprune_export.__file__).parent
FACTORS = {
    "cholesky", "cholesky_ex", "cholesky_inverse", "eigh", "eigvalsh", "inv", "solve", "lstsq",
    "matrix_norm", "pinv", "qr", "svd", "svdvals",
}  # fmt: skip


def test_no_other_module_factors_a_matrix():
    """A factor elsewhere would meet rounding, and the user a traceback. The others only try them out."""
    calls = {
        (str(file.relative_to(PACKAGE)), node.func.attr)
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) in ("torch", "torch.linalg")
        and node.func.attr in FACTORS
    }
    estimates = "workflows/estimate/machine_speed.py", "workflows/estimate/card_speed.py"
    tried = *estimates, "numerics/arithmetic.py"
    assert {file for file, _ in calls} == {*tried, "numerics/least_squares.py"}


def test_the_ridge_is_the_damping_alone_unless_a_rounding_is_given():
    gram = torch.tensor([[4.0, 1.0], [1.0, 100.0]])
    assert torch.equal(damp(gram.clone(), 0.5), gram + 0.5 * torch.eye(2))
    raised = damp(gram.clone(), 0.5, rounding=0.01)
    assert torch.equal(raised, gram + torch.diag(torch.tensor([0.5, 1.0])))
