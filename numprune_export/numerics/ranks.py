"""Processes that prune one model together: each has a share of the texts, and sums are added up.

`torchrun` starts the processes and numbers them. Inside of `together`, sums over tokens are sums over
the tokens of all processes, so that every process goes on with the same numbers. Outside, and in a
run of one process, nothing is exchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from numprune_export.core.errors import DeviceError
from numprune_export.core.processes import Ranks, started

PATIENCE = timedelta(hours=12)
"""A process waits as long for the others: one of them may be exporting a large model."""

T = TypeVar("T")


_ALONE = Ranks()
_here: ContextVar[Ranks] = ContextVar("_here", default=_ALONE)
_together: ContextVar[bool] = ContextVar("_together", default=False)


def here() -> Ranks:
    """This process among those of the run."""
    return _here.get()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the other processes of the run within a `with` statement: NCCL on GPUs, gloo on CPUs.

    Raises:
        DeviceError: another process has ended.
    """
    ranks = started()
    if ranks.world == 1:
        yield ranks
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    token = _here.set(ranks)
    try:
        with _lost_named():
            dist.init_process_group(backend, timeout=PATIENCE)
            yield ranks
    finally:
        _here.reset(token)
        if dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def together() -> Iterator[None]:
    """Within a `with` statement that all processes enter, `summed` and `of_first` exchange."""
    token = _together.set(here().world > 1)
    try:
        yield
    finally:
        _together.reset(token)


def sharing() -> Ranks:
    """This process among those that share the present work; alone outside of `together`."""
    return here() if _together.get() else _ALONE


def summed(values: Tensor) -> Tensor:
    """The sum over all processes, in place."""
    if _together.get():
        dist.all_reduce(values)
    return values


def summed_number(value: float) -> float:
    """The sum over all processes, fp64."""
    if not _together.get():
        return value
    return float(summed(torch.tensor(value, dtype=torch.float64)))


def of_first(values: Tensor) -> Tensor:
    """The first process's values, in place."""
    if _together.get():
        dist.broadcast(values, 0)
    return values


def told(value: T) -> T:
    """What the first process tells all others; `value` of the others is not read."""
    if here().world == 1:
        return value
    content: list[Any] = [value]
    dist.broadcast_object_list(content, 0)
    answer: T = content[0]
    return answer


def gathered(value: T) -> list[T]:
    """The values of all processes, by their number."""
    if not _together.get():
        return [value]
    values: list[Any] = [None] * here().world
    dist.all_gather_object(values, value)
    return values


def dealt(costs: Sequence[float]) -> list[int]:
    """Which jobs are this process's: each goes, largest first, to the process with the least so far."""
    ranks = sharing()
    loads, own = [0.0] * ranks.world, []
    for job in sorted(range(len(costs)), key=lambda job: -costs[job]):
        least = min(range(ranks.world), key=loads.__getitem__)
        loads[least] += costs[job]
        if least == ranks.rank:
            own.append(job)
    return sorted(own)


@contextmanager
def _lost_named() -> Iterator[None]:
    try:
        yield
    except (dist.DistBackendError, dist.DistNetworkError, RuntimeError) as error:
        said = str(error)
        known = ("Connection closed", "connection", "NCCL", "gloo", "Connection reset", "timed out")
        if not isinstance(error, dist.DistError) and not any(word in said for word in known):
            raise
        raise DeviceError(
            f"process {started().rank} of {started().world} lost another:"
            f" {said.splitlines()[0] if said else type(error).__name__}",
            hint="see the error of the process that ended first; the same command resumes the run",
        ) from None
