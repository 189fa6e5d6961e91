"""Run a model block by block over a whole calibration set, holding one block on the device.

What a block is called with (mask, position embeddings) is recorded once per block in a pass that
runs no block at all, so layers with different masks (sliding windows) each get their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from numprune_export.data.corpus import Windows
from numprune_export.models.family import Family

Progress = Callable[[int], None]
"""Called with the number of sequences just finished."""


@dataclass(frozen=True)
class Arguments:
    """Of one call of a block, its hidden states left out."""

    positional: tuple[Any, ...]
    named: Mapping[str, Any]

    def call(self, block: nn.Module, hidden: Tensor) -> Tensor:
        """The block's hidden states, which some classes give alone and some in a tuple."""
        output = block(hidden, *self.positional, **self.named)
        found: Tensor = output[0] if isinstance(output, tuple) else output
        return found


@dataclass
class Batch:
    """Hidden states of some sequences, on their way through the blocks."""

    hidden: Tensor
    """(batch, length, hidden), input of the next block."""
    arguments: list[Arguments]
    """What every block is called with beside the hidden states."""
    real: Tensor | None
    """(batch, length) bool, False where padded; None: nothing is padded."""

    @property
    def tokens(self) -> int:
        """Real ones."""
        rows, length = self.hidden.shape[:2]
        return rows * length if self.real is None else int(self.real.sum())

    def rows(self, activations: Tensor) -> Tensor:
        """The real tokens of (batch, length, n) activations, as (tokens, n)."""
        flat = activations.reshape(-1, activations.shape[-1])
        return flat if self.real is None else flat[self.real.reshape(-1)]

    def scatter_tokens(self, rows: Tensor) -> Tensor:
        """The inverse of `rows`: (batch, length, n), zero where padded."""
        shape = (*self.hidden.shape[:2], rows.shape[-1])
        if self.real is None:
            return rows.reshape(shape)
        found = rows.new_zeros(shape)
        found[self.real] = rows
        return found


class _Recorder(nn.Module):
    """Stands in for a block: keeps its arguments and hands the input on."""

    def __init__(self) -> None:
        super().__init__()
        self.arguments = Arguments((), {})

    def forward(self, hidden: Tensor, *positional: Any, **named: Any) -> Tensor:
        self.arguments = Arguments(positional, named)
        return hidden


class _Source(nn.Module):
    """Stands in for all blocks: these hidden states come out, whatever goes in."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, *_: Any, **__: Any) -> Tensor:
        return self.hidden


class _Reached(Exception):
    """Raised at a layer's input to leave a block early; never leaves this module."""


def prepare_batches(model: nn.Module, family: Family, windows: Windows, batch: int) -> list[Batch]:
    """Token windows to the input of the first block, with every block's arguments.

    Batches are those of `Windows.by_length`, each as wide as its longest window.
    """
    recorders = [_Recorder() for _ in family.block_list(model)]
    trunk, batches = model.get_submodule(family.trunk), []
    with torch.no_grad(), _blocks_replaced(model, family, recorders):
        for rows in windows.by_length(batch):
            ids, real, types = _tensors(windows.rows(rows))
            with _input_of(recorders[0]) as captured:
                trunk(**family.inputs(ids, real, types))
            arguments = [one.arguments for one in recorders]
            batches.append(Batch(captured[0], arguments, None if bool(real.all()) else real))
    return batches


def after(model: nn.Module, family: Family, windows: Windows, hidden: Tensor) -> Any:
    """What the model makes of the last block's output: its own forward with no block in it.

    Args:
        windows: Of the same tokens; masks are made of them, and an embedding that goes nowhere.
        hidden: (batch, length, hidden). A gradient may be taken back to it.
    """
    ids, real, types = _tensors(windows)
    with _blocks_replaced(model, family, [_Source(hidden)]):
        return model(**family.inputs(ids, real, types))


def advance(block: nn.Module, index: int, batches: list[Batch], tick: Progress) -> None:
    """Replace every batch's hidden states by the block's output."""
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
    """Show each named linear layer's input, real tokens only, as (tokens, n), to its callback.

    With `run_on` the batches advance to the block's output in the same pass; without it the block
    is left as soon as the last of the layers was reached, and the batches stay where they are.
    """
    seen: list[str] = []
    current: list[Batch] = []

    def hook(path: str, callback: Callable[[Tensor], None]) -> Callable[..., None]:
        def before(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            callback(current[-1].rows(inputs[0]))
            seen.append(path)
            if not run_on and len(seen) == len(layers):
                raise _Reached

        return before

    handles = [
        block.get_submodule(path).register_forward_pre_hook(hook(path, callback))
        for path, callback in layers.items()
    ]
    try:
        with torch.no_grad():
            for batch in batches:
                seen.clear()
                current.append(batch)
                with suppress(_Reached):
                    output = batch.arguments[index].call(block, batch.hidden)
                if run_on:
                    batch.hidden = output
                tick(batch.hidden.shape[0])
    finally:
        for handle in handles:
            handle.remove()


def _tensors(windows: Windows) -> tuple[Tensor, Tensor, Tensor | None]:
    """Tokens, which of them are real, and their types, as `Family.inputs` takes them."""
    ids = torch.from_numpy(windows.tokens)
    real = torch.arange(ids.shape[1]) < torch.from_numpy(windows.lengths)[:, None]
    return ids, real, None if windows.types is None else torch.from_numpy(windows.types)


@contextmanager
def _blocks_replaced(
    model: nn.Module, family: Family, stand_ins: Sequence[nn.Module]
) -> Iterator[None]:
    """Other modules where the model's blocks were, for the time of a `with`."""
    path, _, name = family.blocks.rpartition(".")
    owner = model.get_submodule(path)
    blocks = getattr(owner, name)
    setattr(owner, name, nn.ModuleList(stand_ins))
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
