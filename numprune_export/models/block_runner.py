"""Run a model block by block over the whole calibration set.

The arguments of each block (mask, position embeddings) are recorded in a pass in which no block is
computed. Layers with different masks (sliding windows) each get their own arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from numprune_export.core.errors import InputError
from numprune_export.core.halving import in_parts
from numprune_export.data.corpus import Windows
from numprune_export.models.batch import Arguments, Batch, TokenRows, joined
from numprune_export.models.family import Family
from numprune_export.models.residency import resident
from numprune_export.numerics.held import Waiting
from numprune_export.numerics.ranks import sharing

Progress = Callable[[int], None]
"""Called with the number of sequences just done."""
Look = Callable[[TokenRows], None]
"""Called with the input of a layer, without padding."""


class _Recorder(nn.Module):
    """Replaces a block: stores its arguments and returns its input."""

    def __init__(self) -> None:
        super().__init__()
        self.arguments = Arguments((), {})

    def forward(self, hidden: Tensor, *positional: Any, **named: Any) -> Tensor:
        self.arguments = Arguments(positional, named)
        return hidden


class _Source(nn.Module):
    """Replaces all blocks: returns the given hidden states."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, *_: Any, **__: Any) -> Tensor:
        return self.hidden


class _Reached(Exception):
    """Raised at a layer's input to leave a block early; caught in this module."""


def prepare_batches(model: nn.Module, family: Family, windows: Windows, batch: int) -> list[Batch]:
    """Compute the input of the first block and the arguments of every block.

    Batches are those of `Windows.by_length`, each padded to its longest window.
    """
    recorders = [_Recorder() for _ in family.block_list(model)]
    trunk, batches = model.get_submodule(family.trunk), list[Batch]()
    with torch.no_grad(), _blocks_replaced(model, family, recorders):
        for rows in windows.by_length(batch):
            inputs, real = model_inputs(model, family, windows.rows(rows))
            with _input_of(recorders[0]) as captured:
                trunk(**inputs)
            arguments = [recorder.arguments for recorder in recorders]
            places = _places(real, captured[0].device)
            batches.append(Batch(Waiting(captured[0]), arguments, places, len(batches)))
    return batches


def shared(windows: Windows, batch: int) -> Windows:
    """This process's share of the windows: every n-th batch of n processes that work together.

    Raises:
        InputError: there are fewer batches than processes.
    """
    ranks = sharing()
    if ranks.world == 1:
        return windows
    batches = windows.by_length(batch)
    if len(batches) < ranks.world:
        raise InputError(
            f"{len(windows.tokens)} calibration sequences are {len(batches)} batches of {batch}, fewer"
            f" than {ranks.world} processes",
            hint="lower `calibration.batch`, give more sequences, or start fewer processes",
        )
    return windows.rows(np.concatenate(batches[ranks.rank :: ranks.world]))


def through_blocks(
    model: nn.Module,
    family: Family,
    windows: Windows,
    batch: int,
    tick: Progress = lambda rows: None,
) -> list[Batch]:
    """Batches of windows behind the last block, each block read once for all of them.

    Args:
        tick: Called with the number of windows that passed a block.
    """
    batches = prepare_batches(model, family, windows, batch)
    for index in range(len(family.block_list(model))):
        with resident(model, family, index) as block:
            advance(block, index, batches, tick)
    return batches


def after(model: nn.Module, family: Family, windows: Windows, hidden: Tensor) -> Any:
    """The model's output from the output of its last block: its own forward without the blocks.

    Args:
        windows: The same tokens, for the masks. Their embeddings are computed but not used.
        hidden: (batch, length, hidden); gradients propagate to it.
    """
    inputs, _ = model_inputs(model, family, windows)
    with _blocks_replaced(model, family, [_Source(hidden)]):
        return model(**inputs)


def advance(block: nn.Module, index: int, batches: list[Batch], tick: Progress) -> None:
    """Replace the hidden states of every batch by the output of the block."""
    with torch.no_grad():
        for batch in batches:
            batch.hidden = joined(list(_outputs(block, index, batch)))
            tick(batch.texts)


def _outputs(block: nn.Module, index: int, batch: Batch) -> Iterator[Tensor]:
    def run(rows: slice) -> Tensor:
        return batch.part(rows).call(block, index)

    return in_parts(batch.texts, run)


def capture_inputs(
    block: nn.Module,
    index: int,
    batches: list[Batch],
    layers: Mapping[str, Look],
    tick: Progress,
    *,
    run_on: bool,
) -> None:
    """Pass the input of each linear layer to its callback, once the block has returned: a batch for
    which the device is full is run again in parts.

    Args:
        block: Block number `index` of the model.
        batches: Inputs of the block.
        layers: Callbacks by the layer's module path inside the block.
        run_on: True: the batches advance to the block's output in the same pass. False: the block
            is left at the input of the last of the layers, and the batches do not change.
    """
    captured: list[tuple[Look, Tensor]] = []

    def hook(look: Look) -> Callable[..., None]:
        def before(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            captured.append((look, inputs[0]))
            if not run_on and len(captured) == len(layers):
                raise _Reached

        return before

    handles = [
        block.get_submodule(path).register_forward_pre_hook(hook(look))
        for path, look in layers.items()
    ]
    try:
        with torch.no_grad():
            for batch in batches:
                outputs = list(_captured_parts(block, index, batch, captured))
                if run_on:
                    batch.hidden = joined([output for output in outputs if output is not None])
                tick(batch.texts)
    finally:
        for handle in handles:
            handle.remove()


def _captured_parts(
    block: nn.Module, index: int, batch: Batch, captured: list[tuple[Look, Tensor]]
) -> Iterator[Tensor | None]:
    """The block's output for each part of a batch, after the callbacks have seen what the hooks
    captured of it; None if the block was left early."""

    def run(rows: slice) -> tuple[Batch, Tensor | None]:
        captured.clear()
        part, output = batch.part(rows), None
        with suppress(_Reached):
            output = part.call(block, index)
        return part, output

    for part, output in in_parts(batch.texts, run):
        _show(captured, part)
        yield output


def _show(captured: list[tuple[Look, Tensor]], part: Batch) -> None:
    """Empties the list."""
    captured.reverse()
    while captured:
        look, activations = captured.pop()
        look(TokenRows(part.rows(activations), part.first))


def model_inputs(
    model: nn.Module, family: Family, windows: Windows
) -> tuple[dict[str, Any], Bool[Tensor, "batch length"]]:
    """Keyword arguments of the trunk for these windows, on the model's device, and the mask of
    their non-padding tokens, on the CPU."""
    device = device_of(model)
    real = torch.arange(windows.tokens.shape[1]) < torch.from_numpy(windows.lengths)[:, None]
    types = None if windows.types is None else torch.from_numpy(windows.types).to(device)
    inputs = family.inputs(torch.from_numpy(windows.tokens).to(device), real.to(device), types)
    return inputs, real


def _places(
    real: Bool[Tensor, "batch length"], device: torch.device
) -> Int64[Tensor, " tokens"] | None:
    """Places of the tokens that are not padding; None: all."""
    return None if bool(real.all()) else real.reshape(-1).nonzero()[:, 0].to(device)


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's parameters."""
    return next(model.parameters()).device


@contextmanager
def _blocks_replaced(
    model: nn.Module, family: Family, replacements: Sequence[nn.Module]
) -> Iterator[None]:
    """Replace the model's blocks within a `with` statement."""
    path, _, name = family.blocks.rpartition(".")
    owner = model.get_submodule(path)
    blocks = getattr(owner, name)
    setattr(owner, name, nn.ModuleList(replacements))
    try:
        yield
    finally:
        setattr(owner, name, blocks)


@contextmanager
def _input_of(module: nn.Module) -> Iterator[list[Tensor]]:
    captured: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
    try:
        yield captured
    finally:
        handle.remove()
