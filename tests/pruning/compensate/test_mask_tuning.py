"""Mask tuning and the refit against least squares on the tokens themselves."""

import pytest
import torch

from numprune_export.numerics.regression import MomentSums
from numprune_export.pruning.compensate.mask_tuning import ScalarTuning, fold, normal_equations
from numprune_export.pruning.compensate.teacher_refit import Refit


def problem(units=4, width=3, out=5, tokens=50, seed=0):
    """A consumer's weight, its input, a target that needs scales near 1, and their moments."""
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(tokens, units * width, generator=generator) + 0.5
    weight = torch.randn(out, units * width, generator=generator)
    scales = 1 + torch.randn(units, generator=generator) / 3
    noise = torch.randn(tokens, out, generator=generator)
    b = h @ (weight * scales.repeat_interleave(width)).T + noise + 0.7
    sums = MomentSums(out, units * width, h.device)
    for part in (slice(0, 20), slice(20, tokens)):
        sums.add(h[part], b[part])
    return weight, h.double(), b.double(), sums.result("here")


def columns(weight, h, width, constant):
    """Each unit's contribution to every output of every token, as a column."""
    units = h.shape[1] // width
    contributions = [
        (
            h[:, u * width : (u + 1) * width] @ weight.double()[:, u * width : (u + 1) * width].T
        ).flatten()
        for u in range(units)
    ]
    return torch.stack(contributions + [torch.ones_like(contributions[0])] * constant, 1)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(("units", "width"), [(4, 3), (7, 1), (1, 4)])
def test_the_normal_equations_are_those_of_the_contributions(units, width, constant):
    weight, h, b, moments = problem(units, width)
    matrix, right = normal_equations(weight, moments, width, intercept=constant)
    a = columns(weight, h, width, constant)
    torch.testing.assert_close(matrix, a.T @ a, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(right, a.T @ b.flatten(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("kind", "width"), [("attention", 3), ("mlp", 1)])
def test_scales_minimise_the_damped_normal_residual_around_one(kind, width):
    weight, h, b, moments = problem(4, width)
    scales = ScalarTuning().scales(weight, moments, width, kind)
    a = columns(weight, h, width, kind == "attention")
    g, ones = a.T @ a, torch.ones(a.shape[1], dtype=torch.float64)
    deviation = torch.linalg.solve(
        g @ g + torch.eye(len(g)), g @ (a.T @ b.flatten() - g @ ones)
    )  # minimises ‖G·x − (r − G·1)‖² + ‖x‖²
    torch.testing.assert_close(scales, (1 + deviation)[:4], rtol=1e-3, atol=1e-4)


def test_folded_scales_are_a_mask_on_the_input():
    weight, h, _, _ = problem(4, 3)
    scales = torch.tensor([0.5, -2.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(
        h @ fold(weight, scales).T, (h * scales.repeat_interleave(3)) @ weight.double().T
    )


def test_a_scale_out_of_bounds_and_a_solver_that_fails_are_not_accepted():
    weight, _, _, moments = problem(4, 3)
    scales = ScalarTuning().scales(weight, moments, 3, "attention")
    limit = float(scales.abs().max())
    assert ScalarTuning(bound=limit * 1.01).scales(weight, moments, 3, "attention") is not None
    assert ScalarTuning(bound=limit * 0.99).scales(weight, moments, 3, "attention") is None

    weight, h, b, _ = problem(12, 1, tokens=200)
    h = h * 10 ** torch.linspace(-2, 1, 12)  # G is then far too badly conditioned
    sums = MomentSums(5, 12, h.device)
    sums.add(h, b)
    assert ScalarTuning().scales(weight, sums.result("here"), 1, "mlp") is None


@pytest.mark.parametrize("affine", [False, True])
def test_the_refit_is_ridge_regression_on_the_change(affine):
    weight, h, b, moments = problem()
    fitted, shift = Refit(bias=affine).solve(weight, moments, 3, "mlp", has_bias=True)
    ridge = 0.01 * (h * h).sum(0).mean()
    trial = torch.as_tensor(fitted).clone().requires_grad_()
    constant = torch.as_tensor(shift, dtype=torch.float64).clone().requires_grad_()
    loss = (h @ trial.T + constant - b).square().sum()
    loss = loss + ridge * (trial - weight).square().sum()
    slopes = torch.autograd.grad(loss, [trial, constant])
    assert slopes[0].abs().max() < 1e-3
    assert slopes[1].abs().max() < 1e-3 or not affine
    assert affine or shift == 0.0


def test_a_layer_without_a_bias_is_given_none():
    weight, _, _, moments = problem()
    assert Refit().solve(weight, moments, 3, "mlp", has_bias=False)[1] == 0.0


def test_the_refit_contains_the_scales():
    weight, _, _, moments = problem(6, 2, seed=3)
    scaled, _ = ScalarTuning().solve(weight, moments, 2, "mlp", has_bias=True)
    refitted, shift = Refit(damping=1e-6).solve(weight, moments, 2, "mlp", has_bias=True)
    errors = [moments.error(weight), moments.error(scaled), moments.error(refitted, shift)]
    assert errors[0] > 1.01 * errors[1] > 1.02 * errors[2]


@pytest.mark.parametrize("shift", [0.0, torch.arange(5).double()])
def test_the_error_is_that_of_the_tokens(shift):
    weight, h, b, moments = problem()
    expected = (h @ weight.double().T + shift - b).square().sum() / b.square().sum()
    assert moments.error(weight, shift) == pytest.approx(float(expected), rel=1e-5)


def test_what_the_weight_lacks_has_the_moments_of_the_target_beside_it():
    weight, h, b, moments = problem()
    short = MomentSums(5, 12, h.device)
    short.add(h, b - h @ weight.double().T)
    completed = short.result("here").beside(weight)
    assert completed.energy == pytest.approx(moments.energy, rel=1e-5)
    for name in ("gram", "cross", "inputs", "targets"):
        torch.testing.assert_close(
            getattr(completed, name), getattr(moments, name), rtol=1e-5, atol=1e-4
        )


def test_sums_do_not_depend_on_how_many_tokens_come_at_once(monkeypatch):
    whole = problem(tokens=50)[3]
    monkeypatch.setattr("numprune_export.numerics.regression.CHUNK", 7)
    for name, moment in vars(problem(tokens=50)[3]).items():
        torch.testing.assert_close(moment, vars(whole)[name], rtol=1e-5, atol=1e-4)
