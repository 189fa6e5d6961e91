"""Mask gradients against autograd on masks written out as parameters."""

import gc
import math
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import tiny
from tiny_encoder import FAMILIES, TASKS, tiny_encoder, uneven_encoder
from torch.nn import functional

from numprune_export.calibration.gradients.losses import OwnPredictions
from numprune_export.calibration.gradients.mask_gradients import (
    LabelledLoss,
    importance,
    unit_gradients,
)
from numprune_export.core.errors import InputError, NumericalError
from numprune_export.data.corpus import Windows
from numprune_export.models.families import llama

LENGTHS = torch.tensor([9, 4, 7, 2, 8, 5])


def texts(pad=0, length=9, vocabulary=97):
    tokens = torch.randint(3, vocabulary, (6, 9), generator=torch.Generator().manual_seed(0))
    tokens = torch.where(torch.arange(9) < LENGTHS[:, None], tokens, pad)
    return Windows(functional.pad(tokens, (0, length - 9), value=pad).numpy(), LENGTHS.numpy())


def real(windows):
    return torch.arange(windows.tokens.shape[1]) < torch.from_numpy(windows.lengths)[:, None]


def class_loss(outputs, labels):
    return functional.cross_entropy(outputs.logits, labels, reduction="none")


def token_loss(outputs, labels):
    labels = labels[:, : outputs.logits.shape[1]]
    losses = functional.cross_entropy(outputs.logits.mT, labels, reduction="none")
    return losses.sum(1) / (labels >= 0).sum(1)


def span_loss(outputs, labels):
    ends = (outputs.start_logits, outputs.end_logits)
    return sum(
        functional.cross_entropy(end, labels[:, i], reduction="none") for i, end in enumerate(ends)
    )


def next_token_loss(outputs, tokens):
    tokens = tokens[:, : outputs.logits.shape[1]]
    losses = functional.cross_entropy(outputs.logits[:, :-1].mT, tokens[:, 1:], reduction="none")
    seen = tokens[:, 1:] != 0
    return (losses * seen).sum(1) / seen.sum(1)


def labelled(task, windows):
    """(labels, loss) of a task."""
    classes = torch.tensor([0, 3, 1, 4, 2, 0])
    match task:
        case "sequence":
            return classes, class_loss
        case "token":
            each = (torch.from_numpy(windows.tokens) % 5).masked_fill(~real(windows), -100)
            return each, token_loss
        case "span":
            return torch.stack([LENGTHS // 2, LENGTHS - 1], 1), span_loss


def with_masks(model, family, windows, per_example):
    """The model's output with every consumer's input multiplied by masks of ones, and the masks."""
    batch, masks, handles = len(windows.tokens), {}, []
    for site in family.sites(model):
        mask = torch.ones(batch if per_example else 1, site.units, requires_grad=True)
        masks[site.name] = mask
        consumer = family.block_list(model)[site.block].get_submodule(site.consumer)

        def multiply(_, inputs, mask=mask, width=site.consumer_width):
            return (inputs[0] * mask.repeat_interleave(width, 1)[:, None],)

        handles.append(consumer.register_forward_pre_hook(multiply))
    tokens = torch.from_numpy(windows.tokens)
    outputs = model(**family.inputs(tokens, real(windows), None))
    for handle in handles:
        handle.remove()
    return outputs, masks


def gather(model, family, windows, labels, loss, batch=6, per="example"):
    return unit_gradients(
        model,
        family,
        windows,
        LabelledLoss(loss, labels),
        batch=batch,
        per=per,
        tick=lambda _: None,
    )


def assert_same(gradients, expected):
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient.abs().max() > 1e-6, name
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("make", [tiny_encoder, uneven_encoder])
@pytest.mark.parametrize(
    ("model_type", "task"),
    [("bert", task_name) for task_name in TASKS]
    + [("roberta", "token"), ("distilbert", "sequence")],
)
def test_each_examples_gradients_are_those_of_its_own_masks(model_type, task, make):
    family, model = FAMILIES[model_type], make(model_type, task)
    windows = texts(model.config.pad_token_id)
    labels, loss = labelled(task, windows)
    outputs, masks = with_masks(model, family, windows, per_example=True)
    wanted = torch.autograd.grad(loss(outputs, labels).sum(), list(masks.values()))
    assert_same(gather(model, family, windows, labels, loss), dict(zip(masks, wanted, strict=True)))


def test_a_batchs_gradient_is_that_of_its_mean_loss_a_smaller_last_batch_included():
    family, model = FAMILIES["bert"], tiny_encoder("bert")
    windows, (labels, loss) = texts(), labelled("sequence", texts())
    rows = []
    for part in (np.arange(4), np.arange(4, 6)):
        outputs, masks = with_masks(model, family, windows.rows(part), False)
        rows.append(torch.autograd.grad(loss(outputs, labels[part]).mean(), list(masks.values())))
    expected = {
        name: torch.cat(pair) for name, pair in zip(masks, zip(*rows, strict=True), strict=True)
    }
    gradients = gather(model, family, windows, labels, loss, batch=4, per="batch")
    assert_same(gradients, expected)
    assert {len(gradient) for gradient in gradients.values()} == {2}


def test_a_decoders_gradients_are_those_of_its_masks():
    family, model = llama.FAMILY, tiny("llama")
    windows = texts()
    labels = torch.from_numpy(windows.tokens)
    outputs, masks = with_masks(model, family, windows, per_example=True)
    wanted = torch.autograd.grad(next_token_loss(outputs, labels).sum(), list(masks.values()))
    gradients = gather(model, family, windows, labels, next_token_loss, batch=4)
    assert_same(gradients, dict(zip(masks, wanted, strict=True)))


def test_padding_and_batch_size_change_no_examples_gradient():
    family, model = FAMILIES["bert"], tiny_encoder("bert", "token")
    short, long = (
        gather(model, family, windows, *labelled("token", windows), batch=batch)
        for windows, batch in ((texts(), 6), (texts(length=15), 2))
    )
    assert_same(long, short)


def test_the_model_is_as_it_was_and_ticks_count_examples():
    family, model = FAMILIES["bert"], tiny_encoder("bert")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    frozen = next(model.parameters())
    frozen.requires_grad_(False)
    ticks = []
    labels, loss = labelled("sequence", texts())
    unit_gradients(
        model, family, texts(), LabelledLoss(loss, labels),
        batch=4, per="batch", tick=ticks.append,
    )  # fmt: skip
    assert ticks == [4, 2]
    assert not frozen.requires_grad
    assert all(
        parameter.requires_grad for parameter in model.parameters() if parameter is not frozen
    )
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_no_batch_leaves_its_activations_behind():
    """A tensor in its own hook is a cycle, which lives until the collector comes by: gigabytes."""
    family, model = FAMILIES["bert"], tiny_encoder("bert")
    seen = []
    for site in family.sites(model):
        consumer = family.block_list(model)[site.block].get_submodule(site.consumer)
        consumer.register_forward_hook(lambda _, inputs, out: seen.append(weakref.ref(inputs[0])))
    gc.collect()
    gc.disable()
    try:
        gather(model, family, texts(), *labelled("sequence", texts()), batch=2)
        assert len(seen) == 6 * 3
        assert not any(reference() is not None for reference in seen)
    finally:
        gc.enable()


def test_importance_is_the_sum_of_squares():
    rows = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
    assert importance(rows).tolist() == [10.0, 4.25]
    assert importance(rows).dtype is torch.float64


def test_infinite_weights_are_named():
    family, model = FAMILIES["bert"], tiny_encoder("bert")
    with torch.no_grad():
        family.block_list(model)[1].output.dense.weight[0, 0] = torch.inf
    with pytest.raises(NumericalError, match="the loss of a calibration example is not finite"):
        gather(model, family, texts(), *labelled("sequence", texts()))


def test_a_gradient_that_is_not_finite_is_named():
    family, model = FAMILIES["bert"], tiny_encoder("bert")

    def root_of_nothing(outputs, labels):
        return (outputs.logits.sum(1) * 0).sqrt()

    with pytest.raises(NumericalError, match=r"mask gradients at `layers\.0\.attention` are not"):
        gather(model, family, texts(), torch.zeros(6), root_of_nothing)


@pytest.mark.parametrize(
    ("labels", "batch", "message"),
    [(5, 4, "5 labels for 6 calibration examples"), (6, 7, "fewer than one batch of 7")],
)
def test_too_few_labels_or_examples_are_refused(labels, batch, message):
    family, model = FAMILIES["bert"], tiny_encoder("bert")
    with pytest.raises(InputError, match=message):
        gather(model, family, texts(), torch.zeros(labels).long(), class_loss, batch=batch)


def test_own_predictions_estimate_the_curvature_of_the_softened_divergence():
    """Σ over many draws of g² / draws is the diagonal of the Hessian of T²·KL at m = 1."""
    family, model = FAMILIES["bert"], tiny_encoder("bert")
    copies, example = 3000, texts().rows(np.arange(1))
    many = Windows(example.tokens.repeat(copies, 0), example.lengths.repeat(copies))
    own = OwnPredictions("sequence", torch.Generator().manual_seed(3))
    gradients = gather(model, family, many, real(many), own, batch=500)
    estimate = importance(gradients["layers.2.mlp"]) / copies

    consumer = family.block_list(model)[2].output.dense
    dense = model(**family.inputs(torch.from_numpy(example.tokens), real(example), None)).logits / 2

    def divergence(mask):
        handle = consumer.register_forward_pre_hook(lambda _, inputs: (inputs[0] * mask,))
        outputs = model(**family.inputs(torch.from_numpy(example.tokens), real(example), None))
        handle.remove()
        terms = functional.kl_div(
            (outputs.logits / 2).log_softmax(1), dense.detach().log_softmax(1),
            log_target=True, reduction="sum",
        )  # fmt: skip
        return 4 * terms

    model.requires_grad_(False)
    curvature = torch.autograd.functional.hessian(divergence, torch.ones(48)).diagonal().double()
    assert torch.corrcoef(torch.stack([estimate, curvature]))[0, 1] > 0.99
    torch.testing.assert_close(estimate.sum(), curvature.sum(), rtol=0.06, atol=0)


def test_own_predictions_of_a_regression_give_the_squared_slope_of_its_answer():
    family, model = FAMILIES["bert"], tiny_encoder("bert", num_labels=1)
    windows = texts()
    own = gather(
        model, family, windows, real(windows), OwnPredictions("sequence", torch.Generator())
    )
    slope = gather(model, family, windows, torch.zeros(6), lambda outputs, _: outputs.logits[:, 0])
    assert_same({k: v.square() for k, v in own.items()}, {k: v.square() for k, v in slope.items()})


def test_own_predictions_of_tokens_do_not_depend_on_padding():
    family, model = FAMILIES["bert"], tiny_encoder("bert", "token")
    short, long = (
        gather(model, family, windows, real(windows), OwnPredictions("token", torch.Generator()))
        for windows in (texts(), texts(length=13))
    )
    assert_same(long, short)


@pytest.mark.parametrize("task", ["token", "span"])
def test_own_predictions_never_draw_padding(task):
    seen = torch.tensor([[True, True, False, False], [True, True, True, False]])
    logits = torch.randn(2, 4, 5) + 50 * ~seen[..., None]
    logits.requires_grad_()
    outputs = SimpleNamespace(logits=logits, start_logits=logits[..., 0], end_logits=logits[..., 1])
    wider = functional.pad(seen, (0, 3))  # as long as the longest of all texts
    losses = OwnPredictions(task, torch.Generator())(outputs, wider)
    assert losses.isfinite().all()
    (slope,) = torch.autograd.grad(losses.sum(), logits)
    moved = slope.abs().amax(2) > 0
    assert torch.equal(moved, seen)


def test_own_predictions_of_a_token_task_are_means_over_its_tokens():
    logits = torch.zeros(1, 3, 4)
    outputs = SimpleNamespace(logits=logits)
    losses = OwnPredictions("token", torch.Generator())(
        outputs, torch.tensor([[True, True, False]])
    )
    torch.testing.assert_close(losses, torch.tensor([2 * math.log(4)]))


def test_the_same_seed_draws_the_same_labels_and_another_does_not():
    family, model, windows = FAMILIES["bert"], tiny_encoder("bert"), texts()
    first, again, other = (
        gather(
            model, family, windows, real(windows),
            OwnPredictions("sequence", torch.Generator().manual_seed(seed)),
        )["layers.0.mlp"]
        for seed in (1, 1, 2)
    )  # fmt: skip
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
