"""Run a model block by block over the whole calibration set.

The arguments of each block (mask, position embeddings) are recorded in a pass in which no block is
computed. Layers with different masks (sliding windows) each get their own arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from numprune_export.core.errors import InputError
from numprune_export.data.corpus import Windows
from numprune_export.models.family import Family
from numprune_export.models.residency import resident
from numprune_export.numerics.ranks import sharing

Progress = Callable[[int], None]
"""Called with the number of sequences just done."""


@dataclass(frozen=True)
class Arguments:
    """Arguments of one call of a block, without the hidden states."""

    positional: tuple[Any, ...]
    named: Mapping[str, Any]

    def call(self, block: nn.Module, hidden: Tensor) -> Tensor:
        """Run the block. Returns its hidden states, which some classes return in a tuple."""
        output = block(hidden, *self.positional, **self.named)
        result: Tensor = output[0] if isinstance(output, tuple) else output
        return result


@dataclass
class Batch:
    """Hidden states of a batch of sequences between two blocks."""

    hidden: Tensor
    """Input of the next block, (batch, length, hidden)."""
    arguments: list[Arguments]
    """Arguments of every block, apart from the hidden states."""
    real: Int64[Tensor, " tokens"] | None
    """Places of the non-padding tokens among batch · length; None: there is no padding."""

    @property
    def tokens(self) -> int:
        """Number of non-padding tokens."""
        rows, length = self.hidden.shape[:2]
        return rows * length if self.real is None else len(self.real)

    def rows(self, activations: Tensor) -> Tensor:
        """The non-padding tokens of (batch, length, n) activations, as (tokens, n)."""
        flat = activations.reshape(-1, activations.shape[-1])
        return flat if self.real is None else flat.index_select(0, self.real)

    def scatter_tokens(self, rows: Tensor) -> Tensor:
        """The inverse of `rows`: (batch, length, n), zero at padding."""
        batch, length = self.hidden.shape[:2]
        if self.real is not None:
            rows = rows.new_zeros(batch * length, rows.shape[-1]).index_copy_(0, self.real, rows)
        return rows.reshape(batch, length, rows.shape[-1])


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
    trunk, batches = model.get_submodule(family.trunk), []
    with torch.no_grad(), _blocks_replaced(model, family, recorders):
        for rows in windows.by_length(batch):
            inputs, real = model_inputs(model, family, windows.rows(rows))
            with _input_of(recorders[0]) as captured:
                trunk(**inputs)
            arguments = [recorder.arguments for recorder in recorders]
            batches.append(Batch(captured[0], arguments, _places(real, captured[0].device)))
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
            batch.hidden = batch.arguments[index].call(block, batch.hidden)
            tick(batch.hidden.shape[0])


def capture_inputs(
    block: nn.Module,
    index: int,
    batches: list[Batch],
    layers: Mapping[str, Callable[[Tensor], None]],
    tick: Progress,
    *,
    run_on: bool,
) -> None:
    """Pass the input of each linear layer, (tokens, n) without padding, to its callback.

    Args:
        block: Block number `index` of the model.
        batches: Inputs of the block.
        layers: Callbacks by the layer's module path inside the block.
        run_on: True: the batches advance to the block's output in the same pass. False: the block
            is left at the input of the last of the layers, and the batches do not change.
    """
    reached: list[str] = []
    current: list[Batch] = []

    def hook(path: str, callback: Callable[[Tensor], None]) -> Callable[..., None]:
        def before(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            callback(current[-1].rows(inputs[0]))
            reached.append(path)
            if not run_on and len(reached) == len(layers):
                raise _Reached

        return before

    handles = [
        block.get_submodule(path).register_forward_pre_hook(hook(path, callback))
        for path, callback in layers.items()
    ]
    try:
        with torch.no_grad():
            for batch in batches:
                reached.clear()
                current.append(batch)
                with suppress(_Reached):
                    output = batch.arguments[index].call(block, batch.hidden)
                if run_on:
                    batch.hidden = output
                tick(batch.hidden.shape[0])
    finally:
        for handle in handles:
            handle.remove()


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
