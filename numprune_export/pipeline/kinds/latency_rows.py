"""Open rows of a run's latency tables, for targets and for PyTorch, and the timing protocol."""

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
from numprune_export.models.device import placed
from numprune_export.pipeline.exported import Exported, facts_of
from numprune_export.recipe import Benchmark

Opened = TypeVar("Opened", bound=Reopened[Any])


def target_row(
    exported: Exported, opened: Sequence[Opened], *, threads: int, rebuilds: Sequence[Opened] = ()
) -> LatencyRow[Opened]:
    """The row of a target; `opened` is (dense, pruned)."""
    dense, pruned = opened
    under = {"threads": threads, **facts_of(exported)}
    return LatencyRow(Pair(dense, pruned), under, reopener(opened), rebuilds)


def protocol_of(settings: Benchmark, observer: Observer) -> Protocol:
    """The timing protocol of a recipe."""
    return Protocol(
        settings.warmup,
        settings.samples,
        settings.sessions,
        settings.seed,
        progress=observer.advance,
    )


def of_torch(device: Device, dtype: torch.dtype) -> dict[str, Any]:
    """Conditions of PyTorch's metrics."""
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
    """Open the PyTorch rows within a `with` statement.

    Args:
        device: `cpu`: one row, `torch`. `cuda`: `torch-cuda` and `torch-cuda-compiled`.
        dtype: Of weights and KV cache, as in the target's artifacts; None: the models' dtype.
        capacity: Tokens of the longest sequence.
        threads: CPU threads; ignored on a GPU.

    Raises:
        DeviceError: PyTorch has no CUDA device, or its memory is too small for both models.
    """
    precision = dtype or pruned.dtype
    models = _on(device, precision, dense, pruned)
    under = of_torch(device, precision)
    with ExitStack() as stack:
        if device == "cpu":
            opened = [stack.enter_context(TorchRunner(model, threads=threads)) for model in models]
            yield {"torch": LatencyRow(Pair(*opened), {"threads": threads, **under})}
            return
        eager = [stack.enter_context(TorchRunner(model, threads=None)) for model in models]
        compiled = [
            stack.enter_context(CompiledTorchRunner(model, capacity=capacity)) for model in models
        ]
        yield {
            "torch-cuda": LatencyRow(Pair(*eager), under),
            "torch-cuda-compiled": LatencyRow(Pair(*compiled), {**under, "compiled": True}),
        }


def _on(
    device: Device, dtype: torch.dtype, *models: PreTrainedModel
) -> tuple[PreTrainedModel, ...]:
    """The models themselves if they have the device and dtype, else copies."""
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"PyTorch {torch.__version__} has no CUDA device",
            hint="install a PyTorch with CUDA, or set `benchmark.reference` to false",
        )
    if device == "cpu" and all(model.dtype is dtype for model in models):
        return models
    try:
        return tuple(placed(model, device, dtype) for model in models)
    except torch.cuda.OutOfMemoryError:
        raise DeviceError(
            "the GPU's memory is too small for the dense and the pruned model in PyTorch",
            hint="set `benchmark.reference` to false",
        ) from None
