"""The step is the minimum of the linearised error, and what it is for gets better."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import MODEL_TYPES, tiny
from tiny_encoder import tiny_encoder
from torch import nn
from torch.nn import functional

from numprune_export.data.corpus import Windows
from numprune_export.models import block_runner
from numprune_export.models.families import FAMILIES
from numprune_export.numerics import gauss_newton
from numprune_export.numerics.gauss_newton import Sublayer, refit
from numprune_export.numerics.matmul_precision import matmul_precision
from numprune_export.pruning import apply
from numprune_export.pruning.compensate import producers as mlp_refit
from numprune_export.pruning.compensate.closed_form import ClosedForm, ProducerRefit
from numprune_export.pruning.plan import Plan

ENCODERS = sorted(set(FAMILIES) - set(MODEL_TYPES))


def gated(outputs):
    return functional.silu(outputs[0]) * outputs[1]


def plain(outputs):
    return functional.gelu(outputs[0])


def problem(count, bias, seed, tokens=300, inputs=6, wide=9, units=5, out=4):
    """A sublayer of which some units are left, in fp64, and what the whole one makes."""
    torch.manual_seed(seed)
    layers = [nn.Linear(inputs, wide, bias=bias, dtype=torch.float64) for _ in range(count)]
    last = nn.Linear(wide, out, bias=bias, dtype=torch.float64)
    x = torch.randn(tokens, inputs, dtype=torch.float64)
    activation = gated if count == 2 else plain
    with torch.no_grad():
        targets = last(activation([layer(x) for layer in layers]))
        for layer in layers:
            layer.weight = nn.Parameter(layer.weight[:units])
            layer.bias = nn.Parameter(layer.bias[:units]) if bias else None
        last.weight = nn.Parameter(last.weight[:, :units])
    return activation, layers, last, x, targets


def fitted(activation, layers, last, x, targets, method=None, every=1):
    """Refitted on batches of tokens, or on one."""
    xs, ts = ([rows] if torch.is_tensor(rows) else rows for rows in (x, targets))
    method = ProducerRefit(token_stride=every) if method is None else method
    sublayer = Sublayer(activation, layers, last, last.weight)
    return refit(sublayer, xs, ts, method, token_stride=every, damping=0.01)


def error(activation, producers, consumer, bias, x, targets):
    made = activation([functional.linear(x, weight, own) for weight, own in producers])
    return float((functional.linear(made, consumer, bias) - targets).square().sum())


@pytest.mark.parametrize("count", [1, 2], ids=["plain", "gated"])
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_errors_are_those_of_the_weights_before_and_after(count, bias):
    activation, layers, last, x, targets = problem(count, bias, seed=1)
    refitted = fitted(activation, layers, last, x, targets)
    own = None if last.bias is None else last.bias.detach().float()
    before = [(layer.weight, layer.bias) for layer in layers]
    with torch.no_grad():
        assert refitted.error_before == pytest.approx(
            error(activation, before, last.weight, last.bias, x, targets), rel=1e-5
        )
        assert refitted.error_after == pytest.approx(
            error(
                activation, refitted.producers, refitted.consumer, own, x.float(), targets.float()
            ),
            rel=1e-4,
        )
    assert refitted.error_after < 0.9 * refitted.error_before
    assert [weight.shape for weight, _ in refitted.producers] == [
        layer.weight.shape for layer in layers
    ]
    assert all((shift is not None) == bias for _, shift in refitted.producers)


@settings(max_examples=20)
@given(count=st.sampled_from([1, 2]), bias=st.booleans(), seed=st.integers(0, 99))
def test_enough_iterations_reach_the_minimum_of_the_linearised_error(count, bias, seed):
    """Its gradient there, by differentiating what is written out below, is nothing."""
    activation, layers, last, x, targets = problem(count, bias, seed)
    x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1).float() if bias else x.float()
    weights = torch.stack([gauss_newton._whole(layer) for layer in layers])
    v = last.weight.float().detach()
    t = (targets - (last.bias if bias else 0)).float().detach()
    method = ProducerRefit(iterations=400, damping=0.05)
    step, _ = gauss_newton._step(activation, weights.detach(), v, [x], [t], method)

    wide = [x.double() @ weight.double().T for weight in weights.detach()]
    _, slopes = gauss_newton._slopes(activation, wide)
    units = torch.stack(
        [derivative.square().sum(0) for derivative in slopes]
    ) * v.double().square().sum(0)
    units = units + gauss_newton.FLOOR * units.mean(1, keepdim=True)
    curvature = x.double().T @ x.double() / len(x)
    ridge = gauss_newton.RIDGE * curvature.diagonal().mean()
    curvature = curvature + ridge * torch.eye(len(curvature), dtype=torch.float64)

    def loss(change):
        moved = sum(s * (x.double() @ d.T) for s, d in zip(slopes, change, strict=True))
        left = t.double() - (activation(wide) + moved) @ v.double().T
        paid = (units[:, :, None] * change * (change @ curvature)).sum()
        return left.square().sum() + 0.05 * paid

    at, start = (point.double().requires_grad_() for point in (step, torch.zeros_like(step)))
    (slope,) = torch.autograd.grad(loss(at), at)
    (steep,) = torch.autograd.grad(loss(start), start)
    assert slope.norm() < 1e-3 * steep.norm()


def test_more_damping_changes_less():
    activation, layers, last, x, targets = problem(2, False, seed=2)
    moved = []
    for damping in (1e-3, 1.0, 1e3):
        method = ProducerRefit(iterations=50, damping=damping)
        refitted = fitted(activation, layers, last, x, targets, method)
        pairs = zip(refitted.producers, layers, strict=True)
        moved.append(
            sum(float((weight - old.weight.detach()).norm()) for (weight, _), old in pairs)
        )
    assert moved[0] > moved[1] > moved[2] > 0


def test_what_is_right_already_stays():
    """And so do units that reach nothing: no division by what they do not do."""
    activation, layers, last, x, _ = problem(2, False, seed=3)
    with torch.no_grad():
        last.weight[:, 0] = 0
        targets = last(activation([layer(x) for layer in layers]))
    refitted = fitted(activation, layers, last, x, targets)
    for (weight, _), old in zip(refitted.producers, layers, strict=True):
        torch.testing.assert_close(weight, old.weight.detach().float())
    torch.testing.assert_close(refitted.outputs[0], targets.float())
    silent = [torch.zeros_like(x)]
    refitted = fitted(activation, layers, last, silent, [targets * 0])
    for (weight, _), old in zip(refitted.producers, layers, strict=True):
        assert torch.equal(weight, old.weight.detach().float())


def test_a_step_that_makes_it_worse_is_not_taken(monkeypatch):
    activation, layers, last, x, targets = problem(2, True, seed=4)
    whole = gauss_newton._step

    def too_far(*arguments):
        step, before = whole(*arguments)
        return -50 * step, before

    monkeypatch.setattr(gauss_newton, "_step", too_far)
    refitted = fitted(activation, layers, last, x, targets)
    for (weight, shift), old in zip(refitted.producers, layers, strict=True):
        assert torch.equal(weight, old.weight.float())
        assert torch.equal(shift, old.bias.float())
    assert refitted.error_after < refitted.error_before  # the consumer is refitted


def test_part_of_a_step_is_taken_where_all_of_it_is_too_far(monkeypatch):
    activation, layers, last, x, targets = problem(1, False, seed=4)
    whole = gauss_newton._step
    steps = []

    def too_far(*arguments):
        step, before = whole(*arguments)
        steps.append(5 * step)
        return steps[-1], before

    monkeypatch.setattr(gauss_newton, "_step", too_far)
    refitted = fitted(activation, layers, last, x, targets)
    ((weight, _),) = refitted.producers
    taken = ((weight - layers[0].weight.detach()) / steps[0][0]).median()
    assert float(taken) == pytest.approx(0.25, rel=1e-3)


def test_producers_are_fitted_to_some_tokens_and_the_consumer_to_more():
    activation, layers, last, x, targets = problem(2, True, seed=5, tokens=480)
    xs, ts = torch.split(x, 120), torch.split(targets, 120)
    known = [batch[::2] for batch in ts]
    refitted = fitted(activation, layers, last, xs, known, ProducerRefit(token_stride=6), every=2)
    some = x[::6], targets[::6]
    few = fitted(activation, layers, last, *some)
    for producer, two in zip(refitted.producers, few.producers, strict=True):
        torch.testing.assert_close(producer, two)
    assert refitted.error_before == pytest.approx(few.error_before)
    assert refitted.error_after > few.error_after

    a = activation(
        [functional.linear(x.float(), *producer) for producer in refitted.producers]
    ).double()
    half, wanted = a[::2], targets[::2] - last.bias
    gram = half.T @ half
    ridge = 0.01 * gram.diagonal().mean() * torch.eye(len(gram), dtype=a.dtype)
    pulled = half.T @ (wanted - half @ last.weight.T)
    expected = last.weight.T + torch.linalg.solve(gram + ridge, pulled)
    torch.testing.assert_close(refitted.consumer.double().T, expected, rtol=1e-3, atol=1e-4)
    own = functional.linear(a, refitted.consumer.double(), last.bias)
    torch.testing.assert_close(
        torch.cat(list(refitted.outputs)).double(), own, rtol=1e-4, atol=1e-5
    )


def test_the_ridge_pulls_to_the_dense_consumer():
    activation, layers, last, x, targets = problem(2, False, seed=7)
    dense = torch.randn_like(last.weight)
    sublayer = Sublayer(activation, layers, last, dense)
    far = refit(sublayer, [x], [targets], ProducerRefit(), token_stride=1, damping=1e6)
    torch.testing.assert_close(far.consumer, dense.detach().float(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_shorter_products_find_nearly_the_same(bias):
    activation, layers, last, x, targets = problem(2, bias, seed=8, tokens=600)
    exact = fitted(activation, layers, last, x, targets)
    with matmul_precision("bfloat16"):
        short = fitted(activation, layers, last, x, targets)
    own = None if last.bias is None else last.bias.detach().float()
    left = [
        error(activation, refitted.producers, refitted.consumer, own, x.float(), targets.float())
        for refitted in (exact, short)
    ]
    assert left[1] < 1.02 * left[0] < 0.9 * exact.error_before
    assert short.consumer.dtype == short.outputs[0].dtype == torch.float32


def texts(seed, count=12):
    tokens = np.random.default_rng(seed).integers(3, 97, (count, 24))
    return Windows(tokens, np.full(count, 24))


def last_hidden(model, family, windows):
    batches = block_runner.prepare_batches(model, family, windows, 4)
    for index, block in enumerate(family.block_list(model)):
        block_runner.advance(block, index, batches, lambda _: None)
    return torch.cat([batch.rows(batch.hidden) for batch in batches])


@pytest.mark.parametrize("lengths", ["full", "padded"])
@pytest.mark.parametrize("model_type", [*MODEL_TYPES, *ENCODERS])
def test_a_repaired_model_of_every_family_is_nearer_to_the_dense_one(model_type, lengths):
    model = tiny(model_type) if model_type in MODEL_TYPES else tiny_encoder(model_type, "sequence")
    family, windows = FAMILIES[model_type], texts(0)
    if lengths == "padded":
        windows = Windows(windows.tokens, np.tile([24, 9, 17], 4))
    sites = family.sites(model)
    kept = {
        site.name: tuple(range(0, site.units, 2) if site.kind == "mlp" else range(site.units))
        for site in sites
    }
    plan, dense = Plan(sites, kept), last_hidden(model, family, windows)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    left, shapes = [], []
    for producers in (None, ProducerRefit(token_stride=1)):
        repair = ClosedForm(producers=producers)
        small = apply.sequential(model, family, plan, repair, windows, 4, lambda _: None)
        left.append(float((last_hidden(small, family, windows) - dense).square().sum()))
        shapes.append([tuple(parameter.shape) for parameter in small.parameters()])
        # As a checkpoint is written: a tensor that is part of a larger one is refused.
        assert all(
            parameter.numel() * parameter.element_size() == parameter.untyped_storage().nbytes()
            for parameter in small.parameters()
        )
    assert left[1] < left[0]
    assert shapes[0] == shapes[1]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_it_is_fitted_to_what_the_dense_sublayer_makes():
    model, family, windows = tiny(), FAMILIES["llama"], texts(1)
    sites = family.sites(model)
    kept = {site.name: tuple(range(site.units)) for site in sites}
    kept["layers.0.mlp"] = tuple(range(40))
    plan, seen = Plan(sites, kept), []
    whole = mlp_refit.refit

    def watched(sublayer, inputs, targets, *rest, **named):
        seen.append((sublayer.dense, inputs, targets))
        return whole(sublayer, inputs, targets, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlp_refit, "refit", watched)
        repair = ClosedForm(token_stride=2, producers=ProducerRefit(least=0))
        apply.sequential(model, family, plan, repair, windows, 4, lambda _: None)
    ((dense, inputs, targets),) = seen
    block = family.block_list(model)[0]
    batches = block_runner.prepare_batches(model, family, windows, 4)
    reached = []
    layer = {"mlp.gate_proj": lambda rows: reached.append(rows.values)}
    block_runner.capture_inputs(block, 0, batches, layer, lambda _: None, run_on=False)
    torch.testing.assert_close(inputs, reached)
    torch.testing.assert_close(targets, [block.mlp(hidden)[::2].detach() for hidden in reached])
    assert torch.equal(dense, block.mlp.down_proj.weight[:, :40])


def test_where_little_goes_the_consumer_alone_is_refitted():
    model, family, windows = tiny(), FAMILIES["llama"], texts(1)
    sites = family.sites(model)
    kept = {site.name: tuple(range(site.units)) for site in sites}
    units = next(site.units for site in sites if site.name == "layers.0.mlp")
    few, many = round(0.9 * units), round(0.5 * units)
    kept |= {"layers.0.mlp": tuple(range(few)), "layers.1.mlp": tuple(range(many))}
    repair = ClosedForm(producers=ProducerRefit(token_stride=1))
    small = apply.sequential(model, family, Plan(sites, kept), repair, windows, 4, lambda _: None)
    for layer, width, changed in ((0, few, False), (1, many, True)):
        was = model.model.layers[layer].mlp.gate_proj.weight[:width]
        assert torch.equal(small.model.layers[layer].mlp.gate_proj.weight, was) != changed


def test_a_repair_at_once_has_no_activations_to_refit_to():
    with pytest.raises(ValueError, match="need `order: sequential`"):
        ClosedForm(order="one_shot", producers=ProducerRefit())
    with pytest.raises(ValueError, match="needs `order: sequential`"):
        ClosedForm(order="one_shot", token_stride=2)


def test_producers_are_fitted_to_tokens_that_the_consumer_is_fitted_to():
    with pytest.raises(ValueError, match="must be a multiple of `token_stride: 4`"):
        ClosedForm(token_stride=4, producers=ProducerRefit(token_stride=6))
