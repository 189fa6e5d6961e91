"""The benchmark stage: latency of dense and pruned in interleaved rounds, and peak memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from numprune_export.benchmark import gpu, gpu_state
from numprune_export.benchmark.gpu_state import GpuState
from numprune_export.benchmark.interleave import Samples
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.exporting import Exported
from numprune_export.pipeline.measured import keys, runnable, write_metrics, write_samples
from numprune_export.pipeline.models import Models
from numprune_export.pipeline.subject import Subject
from numprune_export.run_folder import Stage


def benchmark(
    context: Context, subject: Subject, models: Models, exported: Sequence[Exported]
) -> Stage:
    """Time every target that can run here, beside PyTorch, and measure its memory."""

    def make(folder: Path) -> None:
        here = runnable(exported)
        context.observer.expect(len(here))
        before = _gpu(here)
        samples: dict[str, Samples] = {}
        metrics = subject.latency(models, here, context.observer, samples.__setitem__)
        after = _gpu(here)
        warnings: tuple[str, ...] = ()
        if before is not None and after is not None:
            metrics |= gpu_state.metrics(before, after)
            warnings = gpu_state.warnings(before, after)
        for one in here:
            metrics |= subject.memory(one)
            context.observer.advance(1)
        write_metrics(folder, metrics, warnings)
        write_samples(folder, samples)

    settings = context.recipe.benchmark.model_dump()
    inputs = [*keys(models, exported), subject.evaluation_key, settings]
    return context.stage("benchmark", "benchmark", inputs, make)


def _gpu(exported: Sequence[Exported]) -> GpuState | None:
    """The GPU now, if anything that is timed runs on one."""
    used = any(one.target.exporter.device == "cuda" for one in exported)
    return gpu.read() if used else None
