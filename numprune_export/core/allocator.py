"""When freed memory goes back to the system."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Settings of glibc's `mallopt`: how much may lie free at the heap's end, how much more it grows by than
it must, and from where on a block has pages of its own."""
LARGEST_IN_HEAP = 32 << 20
"""More than this glibc does not take for `MMAP_THRESHOLD`."""


def release() -> None:
    """Collect garbage and return free heap pages, where the C library can (glibc).

    Without it the pieces of one stage's temporary tensors stay resident and add to the next stage's
    peak: on the demo about half a gigabyte.
    """
    gc.collect()
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


@contextmanager
def kept() -> Iterator[None]:
    """For the time of a `with`, what is freed stays with the process, for the next tensor of its size.

    Otherwise activations are given back and asked for again, operator by operator, and every new page
    is cleared first: a seventh of the time of moments. Afterwards the settings are those that glibc
    comes to by itself once a large block was freed.
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
    """A function of the C library, or None where it has none of this name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
