"""Rows of a run's latency tables, opened: a target, or PyTorch; and how often they are timed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

from numprune_export.core.errors import DeviceError
from numprune_export.core.progress import Observer
from numprune_export.export.runner import DecoderRunner, Device
from numprune_export.measure.latency.interleave import Protocol
from numprune_export.measure.latency.pairs import LatencyRow, Pair
from numprune_export.measure.latency.sessions import Reopened, reopener
from numprune_export.measure.reference.compiled import CompiledTorchRunner
from numprune_export.measure.reference.decoder import TorchRunner
from numprune_export.measure.reference.precision import placed
from numprune_export.pipeline.exported import Exported, facts_of
from numprune_export.recipe import Benchmark

Opened = TypeVar("Opened", bound=Reopened[Any])


def target_row(
    exported: Exported, opened: Sequence[Opened], *, threads: int, rebuilds: Sequence[Opened] = ()
) -> LatencyRow[Opened]:
    """A target's artifacts, the dense one first."""
    dense, pruned = opened
    under = {"threads": threads, **facts_of(exported)}
    return LatencyRow(Pair(dense, pruned), under, reopener(opened), rebuilds)


def protocol_of(settings: Benchmark, observer: Observer) -> Protocol:
    """How a recipe asks for timings."""
    return Protocol(
        settings.warmup,
        settings.samples,
        settings.sessions,
        settings.seed,
        progress=observer.advance,
    )


def of_torch(device: Device, dtype: torch.dtype) -> dict[str, Any]:
    """What PyTorch's numbers hold under."""
    return {
        "device": device,
        "dtype": str(dtype).removeprefix("torch."),
        "runtime": f"torch {torch.__version__}",
    }


@contextmanager
def reference_rows(
    dense: PreTrainedModel,
    pruned: PreTrainedModel,
    *,
    device: Device,
    dtype: torch.dtype | None = None,
    capacity: int,
    threads: int,
) -> Iterator[dict[str, LatencyRow[DecoderRunner]]]:
    """Open PyTorch's rows for the time of a `with`.

    Args:
        device: `cpu`: one row, `torch`. `cuda`: `torch-cuda` and `torch-cuda-compiled`.
        dtype: Of weights and cache, as the target's artifacts have it; None: the models' own.
        capacity: The longest sequence that will be run.
        threads: On the CPU.

    Raises:
        DeviceError: this PyTorch has no CUDA device, or its memory does not hold both models.
    """
    precision = dtype or pruned.dtype
    models = _on(device, precision, dense, pruned)
    under = of_torch(device, precision)
    with ExitStack() as stack:
        if device == "cpu":
            opened = [stack.enter_context(TorchRunner(one, threads=threads)) for one in models]
            yield {"torch": LatencyRow(Pair(*opened), {"threads": threads, **under})}
            return
        eager = [stack.enter_context(TorchRunner(one, threads=None)) for one in models]
        compiled = [
            stack.enter_context(CompiledTorchRunner(one, capacity=capacity)) for one in models
        ]
        yield {
            "torch-cuda": LatencyRow(Pair(*eager), under),
            "torch-cuda-compiled": LatencyRow(Pair(*compiled), {**under, "compiled": True}),
        }


def _on(
    device: Device, dtype: torch.dtype, *models: PreTrainedModel
) -> tuple[PreTrainedModel, ...]:
    """The models as they are where they are already there, else copies."""
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"PyTorch {torch.__version__} has no CUDA device",
            hint="install a PyTorch with CUDA, or set `benchmark.reference` to false",
        )
    if device == "cpu" and all(one.dtype is dtype for one in models):
        return models
    try:
        return tuple(placed(one, device, dtype) for one in models)
    except torch.cuda.OutOfMemoryError:
        raise DeviceError(
            "the GPU's memory does not hold the dense and the pruned model in PyTorch",
            hint="set `benchmark.reference` to false",
        ) from None
