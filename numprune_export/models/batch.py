"""A batch of texts between two blocks, and parts of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from numprune_export.numerics.held import Held, Waiting


@dataclass(frozen=True)
class Arguments:
    """Arguments of one call of a block, without the hidden states."""

    positional: tuple[Any, ...]
    named: Mapping[str, Any]

    def part(self, rows: slice, batch: int) -> Arguments:
        """Those of some rows of a batch: of every tensor with a dimension for the batch, its first
        of two or more."""

        def cut(value: Any) -> Any:
            if isinstance(value, tuple | list):
                return type(value)(map(cut, value))
            if isinstance(value, Tensor) and value.dim() > 1 and len(value) == batch:
                return value[rows]
            return value

        named = {name: cut(value) for name, value in self.named.items()}
        return Arguments(tuple(map(cut, self.positional)), named)


@dataclass(frozen=True)
class TokenRows:
    """Activations of consecutive non-padding tokens of a batch."""

    values: Float[Tensor, "tokens n"]
    first: int = 0
    """Number of the first one in the batch."""

    def every(self, stride: int) -> Float[Tensor, "fewer n"]:
        """Every `stride`-th token, counted from the batch's first."""
        return self.values[-self.first % stride :: stride]


@dataclass
class Batch:
    """Hidden states of a batch of sequences between two blocks."""

    waiting: Waiting
    """Input of the next block, (batch, length, hidden), where there was room for it."""
    arguments: list[Arguments]
    """Arguments of every block, apart from the hidden states."""
    real: Int64[Tensor, " tokens"] | None
    """Places of the non-padding tokens among batch · length; None: there is no padding."""
    number: int = 0
    """Of the batch among all."""
    chosen: slice | None = None
    """Rows of the whole batch; None: it is the whole."""
    first: int = 0
    """Number of its first non-padding token in the whole batch."""

    @property
    def hidden(self) -> Tensor:
        """Input of the next block, (batch, length, hidden), copied to its device if it waits in
        another place."""
        return self.waiting.read()

    @hidden.setter
    def hidden(self, states: Tensor) -> None:
        self.waiting = Waiting(states)

    @property
    def texts(self) -> int:
        return self.waiting.shape[0]

    @property
    def device(self) -> torch.device:
        """Of its hidden states when they are read."""
        return self.waiting.device

    @property
    def tokens(self) -> int:
        """Number of non-padding tokens."""
        rows, length = self.waiting.shape[:2]
        return rows * length if self.real is None else len(self.real)

    def part(self, rows: slice) -> Batch:
        """The same batch, restricted to these rows; itself if they are all."""
        batch, length = self.waiting.shape[:2]
        if rows == slice(0, batch):
            return self
        start, stop = rows.start * length, rows.stop * length
        first, real = start, self.real
        if real is not None:
            first = int((real < start).sum())
            real = real[(real >= start) & (real < stop)] - start
        return replace(
            self, waiting=Waiting(self.hidden[rows], stays=True), real=real, chosen=rows, first=first,
            arguments=[arguments.part(rows, batch) for arguments in self.arguments],
        )  # fmt: skip

    def call(self, block: nn.Module, index: int, hidden: Tensor | None = None) -> Tensor:
        """Run block `index` on the hidden states, or on others. Returns its hidden states, which
        some classes return in a tuple."""
        arguments = self.arguments[index]
        token = _running.set(self)
        try:
            output = block(
                self.hidden if hidden is None else hidden, *arguments.positional, **arguments.named
            )
        finally:
            _running.reset(token)
        result: Tensor = output[0] if isinstance(output, tuple) else output
        return result

    def rows(self, activations: Tensor) -> Tensor:
        """The non-padding tokens of (batch, length, n) activations, as (tokens, n)."""
        flat = activations.reshape(-1, activations.shape[-1])
        return flat if self.real is None else flat.index_select(0, self.real)

    def scatter_tokens(self, rows: Tensor) -> Tensor:
        """The inverse of `rows`: (batch, length, n), zero at padding."""
        batch, length = self.waiting.shape[:2]
        if self.real is not None:
            rows = rows.new_zeros(batch * length, rows.shape[-1]).index_copy_(0, self.real, rows)
        return rows.reshape(batch, length, rows.shape[-1])


_running: ContextVar[Batch] = ContextVar("_running")


def running() -> Batch:
    """The batch, or part of one, that a block is running on."""
    return _running.get()


def joined(parts: list[Tensor]) -> Tensor:
    """Consecutive rows as one tensor."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def by_batch(parts: Held, batches: list[Batch]) -> Held:
    """Tokens of all batches in order, of every batch in one or several tensors, as one each.
    `parts` is emptied if it is not returned."""
    if len(parts) == len(batches):
        return parts
    whole, left = Held(), parts.drained()
    for batch in batches:
        own, tokens = list[Tensor](), batch.tokens
        while sum(map(len, own)) < tokens:
            own.append(next(left))
        whole.append(joined(own))
    return whole
