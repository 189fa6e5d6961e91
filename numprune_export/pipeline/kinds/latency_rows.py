"""What stands in a run's latency tables: a dense and a pruned model, open, and what holds for both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from numprune_export.export.runner import Device
from numprune_export.measure.latency.pairs import Pair
from numprune_export.measure.latency.sessions import Reopened, reopener
from numprune_export.pipeline.stages.export import Exported
from numprune_export.pipeline.stages.measurements import facts_of

R_co = TypeVar("R_co", covariant=True)
Opened = TypeVar("Opened", bound=Reopened[Any])


@dataclass(frozen=True)
class LatencyRow(Generic[R_co]):
    """A target, or PyTorch."""

    pair: Pair[R_co]
    conditions: Mapping[str, Any]
    """What its numbers hold under."""
    reopen: Callable[[], None] | None = None
    """Opens the pair anew; None: it stays as it is."""


def target_row(exported: Exported, opened: Sequence[Opened], *, threads: int) -> LatencyRow[Opened]:
    """A target's artifacts, the dense one first."""
    dense, pruned = opened
    under = {"threads": threads, **facts_of(exported)}
    return LatencyRow(Pair(dense, pruned), under, reopener(opened))


def pairs(rows: Mapping[str, LatencyRow[R_co]]) -> dict[str, Pair[R_co]]:
    return {name: row.pair for name, row in rows.items()}


def conditions(rows: Mapping[str, LatencyRow[Any]]) -> dict[str, Mapping[str, Any]]:
    return {name: row.conditions for name, row in rows.items()}


def reopen(rows: Mapping[str, LatencyRow[Any]]) -> dict[str, Callable[[], None]]:
    """Of those that can be."""
    return {name: row.reopen for name, row in rows.items() if row.reopen is not None}


def of_torch(device: Device, dtype: torch.dtype) -> dict[str, Any]:
    """What PyTorch's numbers hold under."""
    return {
        "device": device,
        "dtype": str(dtype).removeprefix("torch."),
        "runtime": f"torch {torch.__version__}",
    }
