"""Work on the rows of a batch, in smaller parts once the device had too little memory for all of it.

A part is repeated as two halves, so `run` changes nothing before its last allocation: what it returns
is added to sums outside of it. Sums that are changed in place are `irreversible`.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Rows = Literal["batch", "tokens"]
"""What is halved: the texts of a batch, or the tokens that are summed at once."""

_TORN = "numprune_torn"
_most: ContextVar[dict[Rows, int] | None] = ContextVar("_most", default=None)


@contextmanager
def watched() -> Iterator[Mapping[Rows, int]]:
    """The most rows at once, of those kinds for which the device was full; remembered within a `with`
    statement."""
    most: dict[Rows, int] = {}
    token = _most.set(most)
    try:
        yield most
    finally:
        _most.reset(token)


def in_parts(count: int, run: Callable[[slice], T], rows: Rows = "batch") -> Iterator[T]:
    """Results for all rows in order: one, or those of smaller parts if the device was full.

    Each result is yielded before the next part runs.

    Args:
        count: Number of rows.
        run: Called with consecutive parts; repeatable if it raises.
        rows: What they are.

    Raises:
        torch.OutOfMemoryError: there is too little memory for one row.
    """
    watched = _most.get()
    most = {} if watched is None else watched
    start = 0
    while start < count or not count:
        stop = min(start + most.get(rows, count), count)
        full = False
        try:
            result = run(slice(start, stop))
        except RuntimeError as error:
            if stop - start <= 1 or not is_full(error) or hasattr(error, _TORN):
                raise
            full = True
        if full:  # the tensors of the failed call were freed with its traceback
            most[rows] = (stop - start) // 2
            free()
            continue
        yield result
        del result
        if not count:
            return
        start = stop


@contextmanager
def irreversible() -> Iterator[None]:
    """Context manager: what the body has changed when the device is full makes a repetition wrong."""
    try:
        yield
    except RuntimeError as error:
        setattr(error, _TORN, True)
        raise


def is_full(error: BaseException) -> bool:
    """Whether PyTorch could not allocate memory on a device."""
    torch = _torch()
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def free() -> None:
    """Return what PyTorch keeps for reuse to the device."""
    gc.collect()
    if (torch := _torch()) is not None:
        torch.cuda.empty_cache()


def _torch() -> Any:
    """PyTorch if it is loaded; importing it here would burden processes that do not use it."""
    return sys.modules.get("torch")
