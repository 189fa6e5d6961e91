"""The rule of precision, and the paths that it chooses from, computed on the CPU."""

import pytest
import torch
from torch._subclasses import FakeTensorMode

from numprune_export.numerics import arithmetic, least_squares, obs
from numprune_export.numerics.arithmetic import DeviceFacts, product_sum, solves_of

REFINED, HOST = "float32, refined", "float64 on the CPU"


@pytest.mark.parametrize(
    ("facts", "solves"),
    [
        (DeviceFacts("cpu"), "float64"),
        (DeviceFacts("cpu", 0.01), "float64"),  # results on the CPU do not depend on its speed
        (DeviceFacts("cuda", 0.5), "float64"),
        (DeviceFacts("cuda", 0.125), "float64"),
        (DeviceFacts("cuda", 0.124), REFINED),
        (DeviceFacts("cuda", 1 / 64), REFINED),
        (DeviceFacts("cuda", 1 / 64, factors=False), HOST),
        (DeviceFacts("cuda", 0.5, factors=False), "float64"),
    ],
)
def test_where_fp64_is_slow_it_is_used_for_residuals_alone(facts, solves):
    assert solves_of(facts) == solves


def test_a_device_is_tried_out(monkeypatch):
    monkeypatch.setattr(arithmetic, "FACTORED", 64)
    facts = arithmetic.probed(torch.device("cpu"), 64)
    assert facts.kind == "cpu"
    assert facts.factors
    assert 0 < facts.fp64_rate < 100

    def fails(*_, **__):
        raise RuntimeError("CUDA error: Invalid argument")

    monkeypatch.setattr(torch.linalg, "cholesky_ex", fails)
    assert not arithmetic.probed(torch.device("cpu"), 8).factors


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments(width=192):
    """Of inputs of uneven size: one has 10⁵ times the median moment, as massive activations do."""
    x = normal(0, 4 * width, width) @ (normal(1, width, width) / width**0.5)
    x[:, 7] *= 300
    gram = x.T @ x
    return least_squares.damp(gram, 0.01 * float(gram.diagonal().median()))


@pytest.fixture
def solving(monkeypatch):
    """Compute as the rule says for another device."""
    return lambda solves: monkeypatch.setattr(least_squares, "solves_on", lambda device: solves)


def error(got, expected):
    assert got.dtype == torch.float64
    return float(((got - expected).norm(dim=0) / expected.norm(dim=0)).max())


def test_a_refined_solution_has_the_digits_that_fp32_alone_has_not(solving):
    gram, right = moments(), normal(2, 192, 40)
    expected = least_squares.solver(gram)(right)
    short = torch.cholesky_solve(right.float(), torch.linalg.cholesky(gram.float())).double()
    solving(REFINED)
    refined = error(least_squares.solver(gram)(right), expected)
    assert refined < 1e-7
    assert refined < error(short, expected) / 100
    assert error(least_squares.inverse(gram), torch.linalg.inv(gram)) < 1e-3
    prior, cross = normal(3, 5, 192), normal(4, 5, 192)
    refitted = least_squares.ridge(gram, cross, prior, 0.1)
    solving("float64")
    assert error(refitted.T, least_squares.ridge(gram, cross, prior, 0.1).T) < 1e-7


@pytest.mark.parametrize("solves", [REFINED, HOST])
def test_what_has_no_factor_in_fp32_is_solved_in_fp64_on_the_cpu(solving, solves):
    x = normal(0, 60, 40)
    x[:, 1:4] = x[:, :1] + 1e-5 * x[:, 1:4]  # nearly equal inputs
    gram, right = x.T @ x, normal(1, 40, 3)
    expected = least_squares.solver(gram)(right), least_squares.inverse(gram)
    solving(solves)
    assert int(torch.linalg.cholesky_ex(gram.float()).info) > 0
    assert torch.equal(least_squares.solver(gram)(right), expected[0])
    assert torch.equal(least_squares.inverse(gram), expected[1])


@pytest.mark.parametrize(("solves", "close"), [(REFINED, 1e-3), (HOST, 0)])
def test_a_removal_order_is_that_of_fp64(solving, solves, close):
    weight, root = normal(5, 48, 192), normal(6, 48, 100)
    given = weight, moments(), root @ root.T
    expected = obs.prune_order(*given, step=8)
    solving(solves)
    got = obs.prune_order(*given, step=8)
    assert got.order[:96].tolist() == expected.order[:96].tolist()
    torch.testing.assert_close(got.error, expected.error, rtol=close, atol=0)


def test_bfloat16_rows_on_cuda_are_multiplied_as_they_are_into_fp32():
    """Their shapes and dtypes: no GPU is needed to see that PyTorch has the operator."""
    with FakeTensorMode():
        rows = torch.empty(16, 4, dtype=torch.bfloat16, device="cuda")
        product = product_sum(rows, torch.empty(16, 6, dtype=torch.bfloat16, device="cuda"))
    assert product.shape == (4, 6)
    assert product.dtype == torch.float32
    assert product.device.type == "cuda"
