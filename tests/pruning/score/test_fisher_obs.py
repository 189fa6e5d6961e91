"""Fisher OBS: what the statistics become, and what a unit costs in nats per token."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from numprune_export.calibration.statistics import Statistics
from numprune_export.core.errors import NumericalError
from numprune_export.models.site import Producer, Site
from numprune_export.pruning.score.fisher_obs import FisherObs


def mlp(units):
    return Site(0, "mlp", units, (Producer("up", 1),), "down", 1, 9)


def query_heads(units, width):
    producers = (Producer("q", width), Producer("k", width, True), Producer("v", width, True))
    return Site(
        0, "attention", units, producers, "o", width, 9, groups=(2,) * (units // 2), shared_cost=5
    )


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def activations(inputs, seed, mean=3.0):
    return normal(seed, 400, inputs) @ normal(seed + 1, inputs, inputs) + mean


def statistics(x, width=1, fisher=None, dtype=torch.float32):
    return Statistics((x.T @ x).to(dtype), x.sum(0), len(x), width, output_fisher=fisher)


def fisher_of(outputs, seed):
    gradients = 0.1 * normal(seed, 50, outputs)
    return gradients.T @ gradients / len(gradients)


def damped_residual(x, weight, fisher, kept, damping, *, centred):
    """½·E(gᵀΔx)² + damping, by ridge regression on tokens themselves."""
    gone = [column for column in range(x.shape[1]) if column not in kept]
    x = x - x.mean(0) if centred else x
    ridge = damping * float(x.square().mean(0).median())
    change = weight.clone()
    # Rows √(T·ridge)·I under the tokens: what damping adds to the curvature of all inputs.
    tall = torch.cat([x, math.sqrt(len(x) * ridge) * torch.eye(x.shape[1])])
    if kept:
        change[:, kept] = -torch.linalg.lstsq(
            tall[:, kept], tall[:, gone] @ weight[:, gone].T
        ).solution.T
    error = tall @ change.T
    return float((error @ fisher * error).sum() / len(x) / 2)


@settings(max_examples=20)
@given(
    inputs=st.integers(1, 7),
    seed=st.integers(0, 99),
    damping=st.sampled_from([1e-3, 1e-2, 0.3]),
    centred=st.booleans(),
)
def test_errors_are_those_of_ridge_regression_on_the_tokens(inputs, seed, damping, centred):
    x, weight, fisher = (
        activations(inputs, seed),
        normal(seed + 2, 4, inputs),
        fisher_of(4, seed + 3),
    )
    score = FisherObs(damping=damping, centred=centred, step=1)
    seen = statistics(x, fisher=fisher, dtype=torch.float64)
    removal = score.removal(weight, seen, mlp(inputs))
    expected = [
        damped_residual(x, weight, fisher, list(removal.kept(inputs - k)), damping, centred=centred)
        for k in range(inputs + 1)
    ]
    torch.testing.assert_close(
        removal.error, torch.tensor(expected).double(), rtol=1e-6, atol=1e-8 * expected[-1]
    )


def test_the_error_is_the_rise_of_the_loss_in_nats_per_token():
    """A softmax classifier of linear outputs: its Fisher is its curvature, and its loss is known."""
    x, weight = activations(6, seed=1, mean=0.5), 0.05 * normal(5, 4, 6)
    logits = x @ weight.T
    probabilities = logits.softmax(1)
    # The mean over labels that the model itself gives of g·gᵀ: the Fisher, not the empirical one.
    fisher = (
        torch.diag_embed(probabilities) - probabilities[:, :, None] * probabilities[:, None]
    ).mean(0)
    removal = FisherObs(damping=1e-6, step=1).removal(weight, statistics(x, fisher=fisher), mlp(6))
    for gone in (1, 3, 5):
        kept = list(removal.kept(6 - gone))
        affine = torch.cat([x[:, kept], torch.ones(len(x), 1)], 1)
        pruned = affine @ torch.linalg.lstsq(affine, logits).solution
        rise = (probabilities * (logits.log_softmax(1) - pruned.log_softmax(1))).sum(1).mean()
        assert float(removal.error[gone]) == pytest.approx(float(rise), rel=0.15)


@pytest.mark.parametrize(("width", "site"), [(1, mlp(6)), (4, query_heads(6, 4))])
def test_units_that_do_not_vary_go_first_and_cost_nothing(width, site):
    x, weight, fisher = activations(6 * width, 2), normal(3, 4, 6 * width), fisher_of(4, 4)
    x[:, 2 * width : 3 * width] = 0
    x[:, 4 * width : 5 * width] = 7.7
    removal = FisherObs(step=1).removal(100 * weight, statistics(x, width, fisher), site)
    assert removal.order[:2].tolist() == [2, 4]
    assert removal.error[2] == 0
    assert removal.error[3] > 0


def test_rounding_of_large_constants_is_not_taken_for_variance():
    """Massive activations that never change: in fp32 their second moment hides the others'."""
    x, weight, fisher = activations(12, 2), normal(3, 4, 12), fisher_of(4, 4)
    x[:, :2] = torch.tensor([1234.567, 98.7654]).double()
    x[:, 10:] = torch.tensor([3456.789, 777.777]).double()
    seen = statistics(x, fisher=fisher)
    removal = FisherObs(damping=2e-3, step=1).removal(weight, seen, mlp(12))
    assert sorted(removal.order[:4].tolist()) == [0, 1, 10, 11]
    assert not removal.error[:5].any()
    gram, total = seen.shifted_gram[2:10, 2:10], seen.shifted_total[2:10]
    rest = Statistics(gram, total, seen.tokens, output_fisher=fisher)
    alone = FisherObs(damping=2e-3, step=1).removal(weight[:, 2:10], rest, mlp(8))
    assert torch.equal(removal.order[4:], alone.order + 2)
    torch.testing.assert_close(removal.error[4:], alone.error, rtol=1e-9, atol=0)


def test_one_tokens_massive_activations_do_not_make_every_unit_dear():
    x, weight, fisher = activations(12, 2), normal(3, 4, 12), fisher_of(4, 4)
    score = FisherObs(centred=False, step=1)
    calm = score.removal(weight, statistics(x, fisher=fisher), mlp(12))
    x[0, :2] *= 1e4
    removal = score.removal(weight, statistics(x, fisher=fisher), mlp(12))
    assert removal.error[8] < 2 * calm.error[8]
    assert removal.error[12] > 1000 * calm.error[12]


def test_without_a_bias_what_is_constant_costs_something():
    x, weight, fisher = activations(5, 2), normal(3, 4, 5), fisher_of(4, 4)
    x[:, 1], x[:, 3] = 0, 7.7
    removal = FisherObs(centred=False, step=1).removal(weight, statistics(x, fisher=fisher), mlp(5))
    assert removal.order[0] == 1
    assert removal.error[1] == 0
    assert removal.error[2] > 0


@pytest.mark.parametrize(
    ("inputs", "weights", "curvature", "expected"),
    [(10, 1, 1, 100), (1, 10, 1, 100), (1, 1, 10, 10), (1e-3, 1e3, 1, 1)],
)
def test_scales_pass_through(inputs, weights, curvature, expected):
    x, weight, fisher = activations(40, 2), normal(3, 4, 40), fisher_of(4, 4)
    removal = FisherObs().removal(weight, statistics(x, fisher=fisher), mlp(40))
    other = FisherObs().removal(
        weights * weight, statistics(inputs * x, fisher=curvature * fisher), mlp(40)
    )
    assert torch.equal(removal.order, other.order)
    torch.testing.assert_close(other.error, expected * removal.error, rtol=1e-4, atol=0)


def test_a_copy_makes_one_of_two_free():
    x, weight, fisher = activations(8, 2), normal(3, 4, 8), fisher_of(4, 4)
    x[:, 5] = x[:, 1]
    removal = FisherObs(damping=1e-5, step=1).removal(weight, statistics(x, fisher=fisher), mlp(8))
    assert removal.order[0] in (1, 5)
    assert removal.error[1] < 0.02 * removal.error[2]
    assert {1, 5} != set(removal.order[:2].tolist())


def test_heads_go_one_by_one_and_channels_by_steps():
    x, weight, fisher = activations(24, 2), normal(3, 4, 24), fisher_of(4, 4)
    channels = FisherObs(step=8).removal(weight, statistics(x, fisher=fisher), mlp(24))
    rises = channels.error.diff().reshape(3, 8)
    torch.testing.assert_close(rises, rises[:, :1].expand(3, 8))
    heads = FisherObs(step=8).removal(weight, statistics(x, 4, fisher), query_heads(6, 4))
    assert len(heads.order) == 6
    assert len(heads.error.diff().unique()) == 6


def test_the_metric_decides_what_counts():
    """Channel 0 feeds output 0 alone, channel 1 output 1; the loss looks at output 0 only."""
    x = normal(1, 400, 2)
    weight = torch.tensor([[1.0, 0], [0, 3.0]]).double()
    fisher = torch.tensor([[1.0, 0], [0, 0]]).double()
    seen = statistics(x, fisher=fisher)
    assert FisherObs(step=1).removal(weight, seen, mlp(2)).order.tolist() == [1, 0]
    plain = FisherObs(step=1, metric="identity")
    assert plain.removal(weight, seen, mlp(2)).order.tolist() == [0, 1]
    alike = statistics(x, fisher=torch.eye(2).double())
    torch.testing.assert_close(
        plain.removal(weight, statistics(x), mlp(2)).error,
        FisherObs(step=1).removal(weight, alike, mlp(2)).error,
    )


def test_weights_and_statistics_of_any_float_dtype_give_fp64():
    x, weight, fisher = activations(8, 2), normal(3, 4, 8), fisher_of(4, 4)
    seen = statistics(x, fisher=fisher.float())
    removal = FisherObs().removal(weight.bfloat16(), seen, mlp(8))
    assert removal.error.dtype == torch.float64
    assert removal.order.dtype == torch.int64
    assert seen.shifted_gram.dtype == torch.float32


def test_a_silent_site_costs_nothing():
    x, weight = torch.zeros(9, 5).double(), normal(3, 4, 5)
    removal = FisherObs().removal(weight, statistics(x, fisher=fisher_of(4, 4)), mlp(5))
    assert removal.order.tolist() == [0, 1, 2, 3, 4]
    assert not removal.error.any()


def test_moments_that_cannot_be_are_refused_by_name():
    fisher = torch.eye(3).double()
    for wrong in (torch.nan, torch.inf):
        gram = torch.tensor([[1.0, 0.5], [0.5, wrong]])
        seen = Statistics(gram, torch.zeros(2).double(), 1, output_fisher=fisher)
        with pytest.raises(NumericalError, match=r"layers\.0\.mlp"):
            FisherObs(centred=False).removal(normal(3, 3, 2), seen, mlp(2))
        seen = Statistics(torch.eye(2), torch.zeros(2).double(), 1, output_fisher=wrong * fisher)
        with pytest.raises(NumericalError, match=r"layers\.0\.mlp"):
            FisherObs().removal(normal(3, 3, 2), seen, mlp(2))
