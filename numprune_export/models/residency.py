"""Streamed models: each block is in memory only while it is in use.

A streamed model has all modules of its configuration. Embedding, final norm and head have tensors;
the tensors of blocks are on `meta`, with their shapes. Its blocks come from a `BlockSource`: a
checkpoint, or another source whose blocks are changed as they are read (masked, pruned).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from numprune_export.models.family import Family
from numprune_export.models.full_device import in_block

_SOURCE = "numprune_blocks"
"""Attribute of a streamed model: where its blocks come from."""


class BlockSource(Protocol):
    """Where the blocks of a streamed model come from."""

    def block(self, index: int) -> nn.Module:
        """A new block with its tensors, which is freed with its last reference."""
        ...

    def weight(self, index: int, path: str) -> Tensor:
        """The weight of a layer of a block; the others are not read if they need not be."""
        ...


@dataclass(frozen=True)
class Changed:
    """The blocks of another source, each changed in place as it is read."""

    source: BlockSource
    change: Callable[[nn.Module, int], None]
    """Called with a block and its number."""

    def block(self, index: int) -> nn.Module:
        """See BlockSource.block."""
        block = self.source.block(index)
        self.change(block, index)
        return block

    def weight(self, index: int, path: str) -> Tensor:
        """See BlockSource.weight."""
        return weight_in(self.block(index), path)


def stream(model: Any, source: BlockSource | None) -> None:
    """Make a model whose blocks are on `meta` a streamed one; None: it has them in memory."""
    setattr(model, _SOURCE, source)


def source_of(model: Any) -> BlockSource | None:
    """Where the blocks of a streamed model come from; None: the model has them all in memory."""
    return getattr(model, _SOURCE, None)


@contextmanager
def resident(model: nn.Module, family: Family, index: int) -> Iterator[nn.Module]:
    """A block of a model with its tensors, within a `with` statement.

    The block of a streamed model is a new one each time: what is done to it is lost, unless it is
    kept, or put into the model by `replace_skeleton`.
    """
    source = source_of(model)
    with in_block(index):
        yield family.block_list(model)[index] if source is None else source.block(index)


def replace_skeleton(model: nn.Module, family: Family, index: int, block: nn.Module) -> None:
    """Give a streamed model the shapes of this block, which loses its tensors."""
    for module in block.modules():
        for name, parameter in module.named_parameters(recurse=False):
            empty = torch.empty_like(parameter, device="meta")
            module.register_parameter(name, nn.Parameter(empty, requires_grad=False))
    model.set_submodule(f"{family.blocks}.{index}", block)


def weight_of(model: nn.Module, family: Family, index: int, path: str) -> Tensor:
    """The weight of a layer of a block, detached."""
    source = source_of(model)
    if source is not None:
        return source.weight(index, path)
    return weight_in(family.block_list(model)[index], path)


def weight_in(block: nn.Module, path: str) -> Tensor:
    """The weight of a layer of this block, detached."""
    weight: Any = block.get_submodule(path).weight
    detached: Tensor = weight.detach()
    return detached


def copy_of_block(block: nn.Module) -> nn.Module:
    """A copy with modules of its own. The configuration and the tensors on `meta` are shared."""
    memo: dict[int, Any] = {id(parameter): parameter for parameter in block.parameters()}
    for module in block.modules():
        for name in ("config", "shared_config"):
            config = getattr(module, name, None)
            if config is not None:
                memo[id(config)] = config
    return copy.deepcopy(block, memo)
