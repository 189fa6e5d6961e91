"""Control when glibc's allocator returns freed memory to the system."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Parameter numbers of glibc's `mallopt`: free bytes at the heap top before trimming, extra bytes
per heap growth, block size in bytes from which a block is mapped by itself (`man 3 mallopt`)."""
LARGEST_IN_HEAP = 32 << 20
"""Bytes; the largest `MMAP_THRESHOLD` that glibc accepts."""


def release() -> None:
    """Collect garbage and return free heap pages to the system; glibc only.

    Without it, freed temporary tensors of one stage stay resident and add to the peak of the next
    stage: about 0.5 GB on the demo.
    """
    gc.collect()
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


@contextmanager
def kept() -> Iterator[None]:
    """Context manager: keep freed memory in the process for reuse by the next tensor.

    Otherwise each operator returns its activations to the system and maps new, zeroed pages, which
    costs a seventh of the time of accumulating moments. On exit, the settings become those that
    glibc chooses by itself after it has freed a large block.
    """
    choose = _glibc("mallopt")
    if choose is None:
        yield
        return
    choose(MMAP_THRESHOLD, LARGEST_IN_HEAP)
    choose(TRIM_THRESHOLD, 1 << 30)
    choose(TOP_PAD, 64 << 20)
    try:
        yield
    finally:
        choose(TRIM_THRESHOLD, 2 * LARGEST_IN_HEAP)
        choose(TOP_PAD, 128 << 10)


def _glibc(name: str) -> Any:
    """The C library's function `name`, or None if it has no such function."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
