"""Tensors of all texts: on the device of their work while it has room, else in main memory."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import overload

import torch
from torch import Tensor

ROOM = 0.4
"""Fraction of a GPU's memory that stays free for sums, equations and the work on a batch."""


def roomy(device: torch.device) -> bool:
    """Whether more tensors may wait on a device: always on the CPU."""
    if device.type != "cuda":
        return True
    free, total = torch.cuda.mem_get_info(device)
    # What PyTorch keeps for reuse is free as well.
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return bool(free + kept >= ROOM * total)


class _Read(Sequence[Tensor]):
    """Tensors that come to be when they are read."""

    @abstractmethod
    def _at(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...

    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        if isinstance(index, slice):
            return [self._at(at) for at in range(*index.indices(len(self)))]
        return self._at(index)


class Held(_Read):
    """Tensors on one device, read one at a time. Those for which it had no room wait in main memory,
    pinned, and are copied to the device whenever they are read."""

    def __init__(self, tensors: Iterable[Tensor] = ()) -> None:
        self._waiting: list[tuple[Tensor, torch.device]] = []
        for tensor in tensors:
            self.append(tensor)

    def append(self, tensor: Tensor) -> None:
        """Add a tensor; it is read on the device that it is on now."""
        device = tensor.device
        self._waiting.append((tensor if roomy(device) else _in_main_memory(tensor), device))

    def __len__(self) -> int:
        return len(self._waiting)

    def _at(self, index: int) -> Tensor:
        tensor, device = self._waiting[index]
        return tensor.to(device, non_blocking=True)

    def drained(self) -> Iterator[Tensor]:
        """The tensors in order, each dropped as it is read."""
        self._waiting.reverse()
        while self._waiting:
            tensor, device = self._waiting.pop()
            yield tensor.to(device, non_blocking=True)


class Seen(_Read):
    """A function of each tensor of a sequence, computed when it is read."""

    def __init__(self, tensors: Sequence[Tensor], function: Callable[[Tensor], Tensor]) -> None:
        self._tensors, self._function = tensors, function

    def __len__(self) -> int:
        return len(self._tensors)

    def _at(self, index: int) -> Tensor:
        return self._function(self._tensors[index])


def _in_main_memory(tensor: Tensor) -> Tensor:
    if not tensor.is_cuda:
        return tensor.cpu()
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)
