"""Gradients at the outputs of a model's sublayers, with one block's graph in memory at a time.

The forward pass runs without gradients and keeps the input of each block. The head gives the
gradient at the last block's output. The backward pass recomputes each block from its kept input.
That costs one more forward pass than backpropagation; memory is one block's activations and, per
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
from numprune_export.calibration.gradients.mask_gradients import LabelledLoss
from numprune_export.core.halving import in_parts
from numprune_export.data.corpus import Windows
from numprune_export.models import block_runner
from numprune_export.models.batch import Batch, joined
from numprune_export.models.block_runner import Progress
from numprune_export.models.family import Family
from numprune_export.models.residency import resident
from numprune_export.numerics.held import Waiting

BACKWARD = 3
"""Forward passes that take as long as a recomputed block and its backward pass."""


@dataclass(frozen=True)
class Objective(LabelledLoss):
    """The loss that is summed over all texts and differentiated."""

    positions: int | None = None
    """Positions of each text that go through the head at once, for a loss that is a sum over
    positions and a head that reads one position at a time; None: all."""

    def gradient(
        self, model: nn.Module, family: Family, windows: Windows, rows: NDArray[Any], hidden: Tensor
    ) -> Float[Tensor, "batch length hidden"]:
        """The gradient of the summed loss of these rows with respect to their last block's output.

        Raises:
            NumericalError: a loss is not finite.
        """
        labels, length = self.labels[rows].to(hidden.device), hidden.shape[1]
        gradient, step = torch.empty_like(hidden), self.positions or length
        for start in range(0, length, step):
            stop = min(start + step, length)
            part = labels if self.positions is None else labels[:, start:stop]
            texts, states = windows.positions(start, stop), hidden[:, start:stop]

            def run(
                rows: slice, texts: Windows = texts, states: Tensor = states, part: Tensor = part
            ) -> Tensor:
                return self._gradient(model, family, texts.part(rows), part[rows], states[rows])

            gradient[:, start:stop] = joined(list(in_parts(len(hidden), run)))
        return gradient

    def _gradient(
        self, model: nn.Module, family: Family, windows: Windows, labels: Tensor, hidden: Tensor
    ) -> Tensor:
        here = hidden.detach().requires_grad_()
        with torch.enable_grad(), frozen(model):
            losses = self.loss(block_runner.after(model, family, windows, here), labels)
            require_finite(losses, "the loss of a calibration example is")
            (gradient,) = torch.autograd.grad(losses.sum(), here)
        return gradient


@dataclass
class BatchState:
    """State of a batch of texts during the forward and backward pass."""

    batch: Batch
    rows: NDArray[Any]
    inputs: list[Waiting] = field(default_factory=list)
    """Inputs of the blocks that the backward pass has not reached yet, in main memory or a file."""
    gradient: Waiting | None = None
    """Gradient with respect to the output of the last of these blocks."""


def forward(
    model: nn.Module,
    family: Family,
    windows: Windows,
    batches: Sequence[NDArray[Any]],
    objective: Objective,
    tick: Progress,
) -> list[BatchState]:
    """Run batches, given by their rows, to the last block's output, and compute the gradient
    there. `tick` is called with a part of `steps_of`."""
    states = [
        BatchState(
            block_runner.prepare_batches(model, family, windows.rows(rows), len(rows))[0], rows
        )
        for rows in batches
    ]
    for index in range(len(family.block_list(model))):
        with resident(model, family, index) as block:
            for state in states:
                state.inputs.append(Waiting(state.batch.hidden.cpu()))
                block_runner.advance(block, index, [state.batch], tick)
    for state in states:
        texts, hidden = windows.rows(state.rows), state.batch.hidden
        gradient = objective.gradient(model, family, texts, state.rows, hidden)
        state.gradient = Waiting(gradient)
        tick(_head_steps(model, family) * len(state.rows))
    return states


def steps_of(model: nn.Module, family: Family, texts: int) -> int:
    """Steps of both passes: one is a text's forward pass through a block; a backward pass, which
    recomputes the block, is `BACKWARD`."""
    blocks = len(family.block_list(model))
    return texts * (blocks * (1 + BACKWARD) + _head_steps(model, family))


def _head_steps(model: Any, family: Family) -> int:
    """Of the head and its gradient for a text: as many as blocks of its weight would have."""
    head = model.get_output_embeddings()
    if head is None:
        return 0
    blocks = family.block_list(model)
    weights = sum(weight.numel() for block in blocks for weight in block.parameters())
    return int(BACKWARD * head.weight.numel() * len(blocks) // max(weights, 1))


def backward(
    block: nn.Module, index: int, consumers: Mapping[str, str], state: BatchState
) -> Iterator[dict[str, Float[Tensor, "tokens out"]]]:
    """Run the backward pass of a batch through one block.

    Args:
        block: The block.
        index: Its number.
        consumers: Paths of layers in the block, by site name.
        state: The batch, whose gradient is at the block's output; it is moved to the block's input
            after the last part.

    Yields:
        By site name, the gradient at the layer's output, a row per real token; in parts if the
        device is full.
    """
    assert state.gradient is not None
    device, inputs, after = state.batch.device, state.inputs[-1].read(), state.gradient.read()
    before: list[Tensor] = []

    def run(rows: slice) -> tuple[Tensor, dict[str, Tensor]]:
        part = state.batch.part(rows)
        hidden = inputs[rows].to(device).detach().requires_grad_()
        with torch.enable_grad(), frozen(block), _outputs(block, consumers) as outputs:
            output = part.call(block, index, hidden)
            gradient, *gradients = torch.autograd.grad(
                output, [hidden, *outputs.values()], after[rows]
            )
        return gradient, {
            name: part.rows(rows) for name, rows in zip(outputs, gradients, strict=True)
        }

    for gradient, by_site in in_parts(len(inputs), run):
        before.append(gradient)
        yield by_site
    state.inputs.pop()
    state.gradient = Waiting(joined(before))


@contextmanager
def _outputs(block: nn.Module, paths: Mapping[str, str]) -> Iterator[dict[str, Tensor]]:
    """Collects the outputs of these layers by name, in the order of execution."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: outputs.__setitem__(name, output)

    handles = [
        block.get_submodule(path).register_forward_hook(keep(name)) for name, path in paths.items()
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
