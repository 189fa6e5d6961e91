"""Tensors of all texts, which wait where there is room: on the device of their work, in main memory,
or in a file."""

from __future__ import annotations

import os
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Literal, overload

import psutil
import torch
from torch import Tensor

from numprune_export.core import host_memory
from numprune_export.core.disk_space import full_disk_named

ROOM = 0.4
"""Fraction of a GPU's memory that stays free for sums, equations and the work on a batch."""
MAIN_ROOM = 0.15
"""Fraction of main memory, or of the container's limit, that stays free likewise."""
Place = Literal["device", "main memory", "file"]

_folder: ContextVar[Path | None] = ContextVar("_folder", default=None)


@contextmanager
def waiting_in(folder: Path) -> Iterator[None]:
    """Put files of waiting tensors on the disk of this folder within a `with` statement; outside of
    one they are temporary files. They have no name, so the system removes them with the process."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def place_on(device: torch.device) -> Place:
    """Where a further tensor that is used on a device may wait."""
    if device.type != "cpu" and (device.type != "cuda" or _free_on(device)):
        return "device"
    total = host_memory.limit_bytes() or psutil.virtual_memory().total
    if host_memory.available_bytes() < MAIN_ROOM * total:
        return "file"
    return "device" if device.type == "cpu" else "main memory"


def _free_on(device: torch.device) -> bool:
    free, total = torch.cuda.mem_get_info(device)
    # What PyTorch keeps for reuse is free as well.
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return bool(free + kept >= ROOM * total)


class Waiting:
    """A tensor that waits where there was room for it, and is copied to its device when it is read."""

    def __init__(self, tensor: Tensor, *, stays: bool = False) -> None:
        """
        Args:
            tensor: It is read on the device that it is on now.
            stays: It stays there, whatever room there is.
        """
        self.device, self.shape = tensor.device, tensor.shape
        place: Place = "device" if stays or not tensor.numel() else place_on(tensor.device)
        if place == "device":
            self._tensor = tensor
        elif place == "main memory":
            self._tensor = _in_main_memory(tensor)
        else:
            self._tensor = _in_file(tensor)

    def read(self) -> Tensor:
        return self._tensor.to(self.device, non_blocking=True)


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
    """Tensors on one device, read one at a time; each waits where there was room for it."""

    def __init__(self, tensors: Iterable[Tensor] = ()) -> None:
        self._waiting: list[Waiting] = []
        for tensor in tensors:
            self.append(tensor)

    def append(self, tensor: Tensor) -> None:
        """Add a tensor; it is read on the device that it is on now."""
        self._waiting.append(Waiting(tensor))

    def __len__(self) -> int:
        return len(self._waiting)

    def _at(self, index: int) -> Tensor:
        return self._waiting[index].read()

    def drained(self) -> Iterator[Tensor]:
        """The tensors in order, each dropped as it is read."""
        self._waiting.reverse()
        while self._waiting:
            yield self._waiting.pop().read()


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


def _in_file(tensor: Tensor) -> Tensor:
    """A copy in a mapped file, whose pages the system can write out when memory is short.

    Raises:
        OutputError: the disk is full.
    """
    folder, size = _folder.get() or Path(tempfile.gettempdir()), tensor.numel()
    with full_disk_named(folder), tempfile.NamedTemporaryFile(dir=folder) as file:
        # Space is taken at once: a mapped page without a place on the disk would end the process.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size * tensor.element_size())
        mapped = torch.from_file(file.name, shared=True, size=size, dtype=tensor.dtype)
    return mapped.view(tensor.shape).copy_(tensor.cpu())
