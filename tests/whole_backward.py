"""Fisher information by one backward pass through the whole model: the oracle, and how it is compared."""

import numpy as np
import torch
from torch.nn import functional

from numprune_export.calibration.gradients import output_fisher
from numprune_export.calibration.gradients.block_backward import Objective
from numprune_export.data.corpus import Windows

LENGTHS = np.array([9, 4, 7, 2, 9, 5])


def texts(pad=0, length=9, lengths=LENGTHS):
    tokens = np.random.default_rng(0).integers(3, 97, (6, 9))
    tokens = np.where(np.arange(9) < lengths[:, None], tokens, pad)
    tokens = np.pad(tokens, ((0, 0), (0, length - 9)), constant_values=pad)
    return Windows(tokens, lengths)


def gather(model, family, windows, loss, labels, batch=2, **settings):
    fishers = {}
    for block in output_fisher.output_fisher(
        model,
        family,
        windows,
        Objective(loss, labels, **settings),
        batch=batch,
        tick=lambda _: None,
    ):
        fishers |= block
    return fishers


def gather_decoder(model, family, windows, batch=2):
    fishers = {}
    for block in output_fisher.next_token_fisher(
        model, family, windows, batch=batch, tick=lambda _: None
    ):
        fishers |= block
    return fishers


def whole(model, family, windows, loss):
    """F by one backward pass per text, unpadded, in fp64; `loss(model's output, row) -> number`."""
    sums, outputs, handles = {}, {}, []
    exact, sites = model.double(), family.sites(model)
    for site in sites:
        consumer = family.block_list(exact)[site.block].get_submodule(site.consumer)

        def keep(_module, _inputs, output, name=site.name):
            outputs[name] = output

        handles.append(consumer.register_forward_hook(keep))
    for row, length in enumerate(windows.lengths):
        tokens = torch.from_numpy(windows.tokens[row : row + 1, :length])
        answer = exact(**family.inputs(tokens, torch.ones_like(tokens).bool(), None))
        gradients = torch.autograd.grad(loss(answer, row), list(outputs.values()))
        for name, gradient in zip(outputs, gradients, strict=True):
            sums[name] = sums.get(name, 0) + gradient[0].T @ gradient[0]
    for handle in handles:
        handle.remove()
    model.float()
    return {name: total / windows.lengths.sum() for name, total in sums.items()}


def assert_same(fishers, expected, relative=1e-4):
    assert fishers.keys() == expected.keys()
    for name, exact in expected.items():
        assert fishers[name].dtype is torch.float64
        assert exact.abs().max() > 1e-9, name
        assert (fishers[name] - exact).abs().max() < relative * exact.abs().max(), name


def next_token_nats(windows):
    def loss(answer, row):
        following = torch.from_numpy(windows.tokens[row, 1 : windows.lengths[row]])
        return functional.cross_entropy(answer.logits[0, :-1], following, reduction="sum")

    return loss


def labelled(task, windows):
    """A task's (loss, labels), and the loss of one unpadded row for the oracle."""
    classes, lengths = torch.tensor([0, 3, 1, 4, 2, 0]), torch.from_numpy(windows.lengths)
    tags = torch.from_numpy(windows.tokens) % 5
    padded = torch.arange(tags.shape[1]) >= lengths[:, None]
    ends = torch.stack([lengths // 2, lengths - 1], 1)
    cross_entropy = functional.cross_entropy

    def of_tokens(outputs, labels):
        labels = labels[:, : outputs.logits.shape[1]]
        each = cross_entropy(outputs.logits.mT, labels, reduction="none")
        return each.sum(1) / (labels >= 0).sum(1)

    def of_span(outputs, labels):
        hidden = torch.arange(outputs.start_logits.shape[1]) >= labels[:, 1:] + 1
        return sum(
            cross_entropy(
                logits.masked_fill(hidden, -torch.inf), labels[:, index], reduction="none"
            )
            for index, logits in enumerate((outputs.start_logits, outputs.end_logits))
        )

    match task:
        case "sequence":
            return (
                lambda outputs, labels: cross_entropy(outputs.logits, labels, reduction="none"),
                classes,
                lambda answer, row: cross_entropy(answer.logits, classes[row : row + 1]),
            )
        case "token":
            return (
                of_tokens,
                tags.masked_fill(padded, -100),
                lambda answer, row: cross_entropy(answer.logits[0], tags[row, : lengths[row]]),
            )
        case "span":
            return (
                of_span,
                ends,
                lambda answer, row: (
                    cross_entropy(answer.start_logits[0], ends[row, 0])
                    + cross_entropy(answer.end_logits[0], ends[row, 1])
                ),
            )
