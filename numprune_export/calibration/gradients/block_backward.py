"""Gradients at the outputs of a model's sublayers, with one block's graph alive at a time.

Forth without gradients, keeping what went into each block; through the head, for the gradient at
the last block's output; then back block by block, each run again from what was kept. That is one
forward pass more than backpropagation needs, for the memory of one block's activations and, per
block, one hidden state per token (Chen et al. 2016, arXiv:1604.06174, with a checkpoint per block).
Weights get no gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from numprune_export.calibration.gradients.backward import frozen, require_finite
from numprune_export.calibration.gradients.mask_gradients import Loss
from numprune_export.data.corpus import Windows
from numprune_export.models import block_runner
from numprune_export.models.block_runner import Batch, Progress
from numprune_export.models.family import Family


@dataclass(frozen=True)
class Objective:
    """What is summed over all texts and differentiated."""

    loss: Loss
    labels: Tensor
    """(texts, ...), handed to `loss` by rows."""
    positions: int | None = None
    """Positions of each text that go through the head together, for a loss that adds up over them
    and a head that looks at one at a time; None: all."""

    def gradient(
        self, model: nn.Module, family: Family, windows: Windows, rows: NDArray[Any], hidden: Tensor
    ) -> Float[Tensor, "batch length hidden"]:
        """Of the summed loss of some rows, with respect to their last block's output.

        Raises:
            NumericalError: a loss is not finite.
        """
        labels, length = self.labels[rows], hidden.shape[1]
        found, step = torch.empty_like(hidden), self.positions or length
        for start in range(0, length, step):
            stop = min(start + step, length)
            here = hidden[:, start:stop].detach().requires_grad_()
            mine = labels if self.positions is None else labels[:, start:stop]
            with torch.enable_grad(), frozen(model):
                outputs = block_runner.after(model, family, windows.positions(start, stop), here)
                losses = self.loss(outputs, mine)
                require_finite(losses, "the loss of a calibration example is")
                (found[:, start:stop],) = torch.autograd.grad(losses.sum(), here)
        return found


@dataclass
class Journey:
    """A batch of texts on its way through the blocks and back."""

    batch: Batch
    rows: NDArray[Any]
    inputs: list[Tensor] = field(default_factory=list)
    """What went into each block that it has not come back through, on the CPU."""
    gradient: Tensor | None = None
    """With respect to the last of these blocks' output."""


def forward(
    model: nn.Module,
    family: Family,
    windows: Windows,
    batches: Sequence[NDArray[Any]],
    objective: Objective,
    tick: Progress,
) -> list[Journey]:
    """Take some batches, given by their rows, to the last block's output and the gradient there."""
    journeys = [
        Journey(block_runner.prepare_batches(model, family, windows.rows(rows), len(rows))[0], rows)
        for rows in batches
    ]
    for index, block in enumerate(family.block_list(model)):
        for one in journeys:
            one.inputs.append(one.batch.hidden.cpu())
            block_runner.advance(block, index, [one.batch], tick)
    for one in journeys:
        one.gradient = objective.gradient(
            model, family, windows.rows(one.rows), one.rows, one.batch.hidden
        )
    return journeys


def backward(
    block: nn.Module, index: int, consumers: Mapping[str, str], journey: Journey
) -> dict[str, Float[Tensor, "tokens out"]]:
    """Take a batch back through one block.

    Args:
        consumers: By any name, paths of layers in the block.

    Returns:
        By that name, the gradient at the layer's output, a row for every real token.
    """
    batch = journey.batch
    hidden = journey.inputs.pop().to(batch.hidden.device).detach().requires_grad_()
    with torch.enable_grad(), frozen(block), _outputs(block, consumers) as outputs:
        after = batch.arguments[index].call(block, hidden)
        journey.gradient, *found = torch.autograd.grad(
            after, [hidden, *outputs.values()], journey.gradient
        )
    return {name: batch.rows(one) for name, one in zip(outputs, found, strict=True)}


@contextmanager
def _outputs(block: nn.Module, paths: Mapping[str, str]) -> Iterator[dict[str, Tensor]]:
    """What these layers give when the block is run, by name, in the order that they were reached."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: found.__setitem__(name, output)

    handles = [
        block.get_submodule(path).register_forward_hook(keep(name)) for name, path in paths.items()
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
