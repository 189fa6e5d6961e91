"""The nested removal order against refits by independent least squares."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from numprune_export.core.errors import NumericalError
from numprune_export.numerics import obs


def problem(outputs, inputs, seed, rank=None):
    """W, a positive definite A of uneven spectrum, and R with F = R·Rᵀ of the given rank."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    mix = normal(inputs, inputs) * torch.logspace(0, -1, inputs).double()
    x = normal(3 * inputs, inputs) @ mix
    curvature = x.T @ x / len(x) + 0.01 * torch.eye(inputs)
    return normal(outputs, inputs), curvature, normal(outputs, rank or 2 * outputs)


def refit_cost(weight, curvature, root, kept):
    """The least tr((W − V)ᵀF(W − V)A) over V that is 0 outside `kept`, by least squares.

    With A = S·Sᵀ it is ‖Rᵀ(W − V)S‖², solved as it stands in all entries of V at once: F takes part
    in the fit.
    """
    factor = torch.linalg.cholesky(curvature)
    target = (root.T @ weight @ factor).reshape(-1, 1)
    design = torch.einsum("or,ki->riok", root, factor[kept]).reshape(len(target), -1)
    fitted = torch.linalg.lstsq(design, target, driver="gelsd").solution
    return float((target - design @ fitted).square().sum())


def inputs_of(units, width):
    return [unit * width + i for unit in units for i in range(width)]


@settings(max_examples=25)
@given(
    units=st.integers(1, 6),
    width=st.integers(1, 3),
    seed=st.integers(0, 999),
    rank=st.integers(1, 8),
)
def test_the_error_of_every_count_is_that_of_the_best_refit(units, width, seed, rank):
    weight, curvature, root = problem(4, units * width, seed, rank)
    removal = obs.prune_order(weight, curvature, root @ root.T, width=width)
    expected = [
        refit_cost(weight, curvature, root, inputs_of(removal.kept(units - gone), width))
        for gone in range(units + 1)
    ]
    torch.testing.assert_close(
        removal.error, torch.tensor(expected).double(), rtol=1e-6, atol=1e-8 * (1 + expected[-1])
    )
    assert removal.error[0] == 0
    assert (removal.error.diff() >= 0).all()


@settings(max_examples=25)
@given(units=st.integers(2, 6), width=st.integers(1, 3), seed=st.integers(0, 999))
def test_each_unit_that_goes_is_the_cheapest_of_those_left(units, width, seed):
    weight, curvature, root = problem(4, units * width, seed)
    removal = obs.prune_order(weight, curvature, root @ root.T, width=width)
    left = list(range(units))
    for unit in removal.order.tolist():
        costs = {
            candidate: refit_cost(
                weight, curvature, root, inputs_of([k for k in left if k != candidate], width)
            )
            for candidate in left
        }
        assert unit == min(costs, key=costs.get)
        left.remove(unit)


def test_the_best_refit_does_not_depend_on_the_metric():
    weight, curvature, root = problem(3, 5, seed=1)
    kept, gone = [0, 2, 3], [1, 4]
    plain = (
        weight[:, kept]
        + torch.linalg.solve(
            curvature[kept][:, kept], curvature[kept][:, gone] @ weight[:, gone].T
        ).T
    )
    change = weight.clone()
    change[:, kept] -= plain
    cost = float((change.T @ root @ root.T @ change * curvature).sum())
    assert cost == pytest.approx(refit_cost(weight, curvature, root, kept), rel=1e-9)


@pytest.mark.parametrize("inputs", [1, 2, 127, 128, 129, 300])
@pytest.mark.parametrize("step", [1, 5, 16])
def test_panels_do_not_show(inputs, step, monkeypatch):
    weight, curvature, root = problem(4, inputs, seed=2)
    whole = obs.prune_order(weight, curvature, root @ root.T, step=step)
    monkeypatch.setattr(obs, "PANEL", step)  # the inverse is up to date at every step
    eager = obs.prune_order(weight, curvature, root @ root.T, step=step)
    assert torch.equal(whole.order, eager.order)
    torch.testing.assert_close(whole.error, eager.error, rtol=1e-9, atol=0)


@pytest.mark.parametrize("step", [2, 3, 7])
def test_a_step_costs_what_its_units_cost_together_and_rises_in_a_straight_line(step):
    weight, curvature, root = problem(4, 7, seed=3)
    removal = obs.prune_order(weight, curvature, root @ root.T, step=step)
    ends = [*range(0, 7, step), 7]
    for start, end in itertools.pairwise(ends):
        expected = refit_cost(weight, curvature, root, list(removal.kept(7 - end)))
        assert float(removal.error[end]) == pytest.approx(expected, rel=1e-6)
        rises = removal.error[start : end + 1].diff()
        torch.testing.assert_close(rises, rises.mean().expand_as(rises))


def test_within_a_step_the_cheapest_unit_goes_first():
    weight, curvature, root = problem(4, 6, seed=4)
    removal = obs.prune_order(weight, curvature, root @ root.T, step=6)
    alone = [
        refit_cost(weight, curvature, root, [k for k in range(6) if k != unit]) for unit in range(6)
    ]
    assert removal.order.tolist() == sorted(range(6), key=alone.__getitem__)


def test_no_metric_is_the_identity():
    weight, curvature, _ = problem(4, 9, seed=5)
    plain = obs.prune_order(weight, curvature, None, step=2)
    identity = obs.prune_order(weight, curvature, torch.eye(4).double(), step=2)
    assert torch.equal(plain.order, identity.order)
    torch.testing.assert_close(plain.error, identity.error)


def test_equal_units_go_in_their_order_and_a_zero_metric_costs_nothing():
    weight, curvature = torch.ones(2, 5).double(), torch.eye(5).double()
    removal = obs.prune_order(weight, curvature, torch.zeros(2, 2).double())
    assert removal.order.tolist() == [0, 1, 2, 3, 4]
    assert not removal.error.any()


def test_the_callers_tensors_are_not_changed():
    weight, curvature, root = problem(3, 140, seed=6)
    given_ = [weight, curvature, root @ root.T]
    before = [tensor.clone() for tensor in given_]
    obs.prune_order(*given_, step=4)
    obs.prune_order(given_[0], given_[1], None, step=4)
    assert all(torch.equal(tensor, other) for tensor, other in zip(given_, before, strict=True))


@pytest.mark.parametrize("wrong", ["curvature", "metric"])
def test_what_is_not_finite_is_refused(wrong):
    weight, curvature, root = problem(3, 4, seed=7)
    given_ = {"curvature": curvature, "metric": root @ root.T}
    given_[wrong][1, 1] = torch.nan
    with pytest.raises(NumericalError, match="NaN or infinite"):
        obs.prune_order(weight, **given_)


@pytest.mark.parametrize("width", [1, 2])
def test_inputs_that_repeat_each_other_have_an_order(width):
    """The curvature is singular, and rounding takes its least eigenvalues below nothing."""
    weight, curvature, root = problem(3, 8, seed=7)
    twice = torch.cat([curvature[:4, :4]] * 2).repeat(1, 2).float().double()
    shaken = twice - 1e-7 * torch.eye(8) * twice.diagonal()
    removal = obs.prune_order(weight, shaken, root @ root.T, width=width)
    half = 4 // width
    assert torch.isfinite(removal.error).all()
    assert removal.error[half] < 1e-3 * removal.error[half + 1]
    assert len({unit % half for unit in removal.order[:half].tolist()}) == half


@pytest.mark.gpu
def test_a_gpu_finds_the_same_order():
    weight, curvature, root = problem(16, 300, seed=8)
    metric = root @ root.T
    for width, step in ((1, 16), (20, 1)):
        here = obs.prune_order(weight, curvature, metric, width=width, step=step)
        there = obs.prune_order(
            weight.cuda(), curvature.cuda(), metric.cuda(), width=width, step=step
        )
        assert there.order.device.type == "cuda"
        assert torch.equal(here.order, there.order.cpu())
        torch.testing.assert_close(here.error, there.error.cpu(), rtol=1e-8, atol=0)
