"""Device memory, and pinned host memory for copies at full speed."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numprune_exporters.cuda.device import call, runtime


class DeviceBuffer:
    """Device memory aligned to 256 bytes. It only grows, and growing discards its content."""

    def __init__(self) -> None:
        self.address = 0
        self.size = 0

    def reserve(self, size: int) -> int:
        """Hold at least `size` bytes and return the address.

        Raises:
            DeviceError: the device is out of memory.
        """
        if size > self.size:
            # Free first: old and new memory together may exceed the device's memory.
            self.free()
            self.address, self.size = int(call("cudaMalloc", size)), size
        return self.address

    def free(self) -> None:
        """Free the memory. No running work may read it."""
        if self.address:
            call("cudaFree", self.address)
        self.address = self.size = 0


class PinnedBuffer:
    """Page-locked host memory viewed as arrays. It only grows."""

    def __init__(self) -> None:
        self.address = 0
        self.size = 0

    def reserve(self, size: int) -> int:
        """Hold at least `size` bytes and return the address. Growing invalidates earlier arrays.

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
        """Free the memory. No running copy may use it."""
        if self.address:
            call("cudaFreeHost", self.address)
        self.address = self.size = 0


def view(address: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
    """An array over host memory, without ownership and without a copy."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape)) * kind.itemsize
    memory = memoryview((ctypes.c_char * size).from_address(address))
    return np.frombuffer(memory, kind).reshape(shape)
