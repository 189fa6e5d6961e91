"""The benchmark stage: latency of dense and pruned in interleaved rounds, and peak memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer
from numprune_export.core.stage import Stage
from numprune_export.measure.gpu import read as gpu
from numprune_export.measure.gpu import state as gpu_state
from numprune_export.measure.gpu.state import GpuState
from numprune_export.measure.latency.interleave import Samples
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.exported import Exported, runnable
from numprune_export.pipeline.kinds.kind import Ideal, ModelKind
from numprune_export.pipeline.models import Models
from numprune_export.pipeline.stages.measurements import keys, write_metrics, write_samples


@dataclass(frozen=True)
class Timed:
    """Result of the benchmark."""

    metrics: Metrics
    warnings: tuple[str, ...]
    samples: Mapping[str, Samples]
    """By row, timing and variant, such as `latency.onnx.decode.pruned`."""


def benchmark(
    context: Context, kind: ModelKind, models: Models, exported: Sequence[Exported]
) -> Stage:
    """Time every target that can run here, and PyTorch, and measure memory."""

    def make(folder: Path) -> None:
        result = measure(kind, models, exported, context.observer)
        write_metrics(folder, result.metrics, result.warnings)
        write_samples(folder, result.samples)

    inputs = [*keys(models, exported), kind.benchmark_key]
    return context.stage("benchmark", "benchmark", inputs, make)


def measure(
    kind: ModelKind,
    models: Models,
    exported: Sequence[Exported],
    observer: Observer,
    ideal: Ideal | None = None,
) -> Timed:
    """Measure latency and memory; `ideal` None: computed from both models."""
    timed = runnable(exported)
    observer.expect(len(timed))
    before = _gpu(timed)
    latencies = kind.latency(models, timed, observer, ideal)
    metrics = dict(latencies.metrics)
    after = _gpu(timed)
    warnings: tuple[str, ...] = ()
    if before is not None and after is not None:
        metrics |= gpu_state.metrics(before, after)
        warnings = gpu_state.warnings(before, after)
    for artifacts in timed:
        metrics |= kind.memory(artifacts)
        observer.advance(1)
    return Timed(metrics, warnings, latencies.samples)


def _gpu(exported: Sequence[Exported]) -> GpuState | None:
    """The current GPU state, if a target runs on a GPU."""
    used = any(artifacts.target.exporter.device == "cuda" for artifacts in exported)
    return gpu.read() if used else None
