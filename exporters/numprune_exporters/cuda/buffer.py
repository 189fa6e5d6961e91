"""Memory on the device, and pinned memory on the host that copies to and from it run at full speed in."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numprune_exporters.cuda.device import call, runtime


class DeviceBuffer:
    """Bytes on the device, aligned to 256, which only grow and whose content growing forgets."""

    def __init__(self) -> None:
        self.address = 0
        self.size = 0

    def reserve(self, size: int) -> int:
        """Hold at least `size` bytes; the address.

        Raises:
            DeviceError: the device is out of memory.
        """
        if size > self.size:
            # The old bytes go first: both at once could be more than the device has.
            self.free()
            self.address, self.size = int(call("cudaMalloc", size)), size
        return self.address

    def free(self) -> None:
        """Give the memory back. Nothing may be running that reads it."""
        if self.address:
            call("cudaFree", self.address)
        self.address = self.size = 0


class PinnedBuffer:
    """Page-locked bytes on the host, which only grow, seen as arrays."""

    def __init__(self) -> None:
        self.address = 0
        self.size = 0

    def reserve(self, size: int) -> int:
        """Hold at least `size` bytes; the address. Arrays given out before are gone if it grows.

        Raises:
            DeviceError: the host cannot lock that much memory.
        """
        if size > self.size:
            self.free()
            default = runtime().cudaHostAllocDefault
            self.address, self.size = int(call("cudaHostAlloc", size, default)), size
        return self.address

    def array(self, offset: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
        """A view at a byte offset; valid until the buffer grows or is freed."""
        return view(self.address + offset, shape, dtype)

    def free(self) -> None:
        """Give the memory back. No copy may be running from or to it."""
        if self.address:
            call("cudaFreeHost", self.address)
        self.address = self.size = 0


def view(address: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
    """Host memory as an array that neither owns nor copies it."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape)) * kind.itemsize
    memory = memoryview((ctypes.c_char * size).from_address(address))
    return np.frombuffer(memory, kind).reshape(shape)
