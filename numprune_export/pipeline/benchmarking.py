"""The benchmark stage: latency of dense and pruned in interleaved rounds, and peak memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from numprune_export.artifact import Artifact, DecoderRunner, Tokens
from numprune_export.benchmark import gpu, gpu_state
from numprune_export.benchmark.cost import cost, ideal_speedups
from numprune_export.benchmark.gpu_state import GpuState
from numprune_export.benchmark.latency import PHASES, Pair, Workload, measure_decoders
from numprune_export.benchmark.memory import measure_memory
from numprune_export.corpus import Windows
from numprune_export.metric import Metrics
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.exporting import Exported
from numprune_export.pipeline.measured import (
    facts_of,
    keys,
    open_artifact,
    reference_device,
    runnable,
    write_metrics,
)
from numprune_export.pipeline.models import VARIANTS, Models
from numprune_export.pipeline.reference_rows import ReferenceRow, reference_rows
from numprune_export.run_folder import Stage, key_of


def benchmark(
    context: Context, models: Models, exported: Sequence[Exported], windows: Windows
) -> Stage:
    """Time every target that can run here, beside PyTorch, and measure its memory."""
    recipe = context.recipe.benchmark
    prompt = _prompt(windows, recipe.batch, max(recipe.prefill, recipe.past))
    workload = Workload(
        prompt, recipe.prefill, recipe.past, recipe.decode_steps, recipe.warmup, recipe.samples
    )

    def make(folder: Path) -> None:
        context.observer.expect(len(PHASES) * (recipe.warmup + recipe.samples))
        here = runnable(exported)
        before = _gpu(here)
        metrics = _latency(context, models, here, workload)
        after = _gpu(here)
        warnings: tuple[str, ...] = ()
        if before is not None and after is not None:
            metrics |= gpu_state.metrics(before, after)
            warnings = gpu_state.warnings(before, after)
        for one in here:
            metrics |= measure_memory(
                one.target.name,
                {variant: artifact.folder for variant, artifact in one.artifacts.items()},
                threads=recipe.threads,
                batch=recipe.batch,
                prompt_tokens=recipe.prefill,
                decode_steps=recipe.decode_steps,
            )
        write_metrics(folder, metrics, warnings)

    inputs = [*keys(models, exported), key_of(prompt.tolist()), recipe.model_dump()]
    return context.stage("benchmark", "benchmark", inputs, make)


def _gpu(exported: Sequence[Exported]) -> GpuState | None:
    """The GPU now, if anything that is timed runs on one."""
    used = any(one.target.exporter.device == "cuda" for one in exported)
    return gpu.read() if used else None


def _latency(
    context: Context, models: Models, exported: Sequence[Exported], workload: Workload
) -> Metrics:
    recipe = context.recipe.benchmark
    with ExitStack() as stack:
        pairs, under = {}, {}
        rebuilds: dict[str, list[DecoderRunner]] = {}
        for one in exported:
            opened = [
                stack.enter_context(open_artifact(one, variant, workload.capacity, recipe.threads))
                for variant in VARIANTS
            ]
            pairs[one.target.name] = Pair(*opened)
            under[one.target.name] = {"threads": recipe.threads, **facts_of(one)}
            rebuilds[one.target.name] = [
                stack.enter_context(
                    one.target.exporter.open(
                        build, threads=recipe.threads, capacity=workload.capacity
                    )
                )
                for build in _rebuilds(one.artifacts["pruned"])
            ]
        if recipe.reference or not exported:
            rows = stack.enter_context(_references(models, exported, workload, recipe.threads))
            pairs |= {name: row.pair for name, row in rows.items()}
            under |= {name: dict(row.conditions) for name, row in rows.items()}
        return measure_decoders(
            pairs,
            workload,
            ideal=_ideal(models, workload),
            conditions=under,
            rebuilds=rebuilds,
            seed=recipe.seed,
            progress=context.observer.advance,
        )


def _references(
    models: Models, exported: Sequence[Exported], workload: Workload, threads: int
) -> AbstractContextManager[dict[str, ReferenceRow]]:
    """PyTorch where the artifacts run, and in the dtype that they have on a GPU."""
    device = reference_device(exported)
    on_gpu = [one for one in exported if one.target.exporter.device == "cuda"]
    stated = on_gpu[0].artifacts["pruned"].facts["dtype"] if device == "cuda" else None
    return reference_rows(
        models.dense,
        models.pruned,
        device=device,
        dtype=None if stated is None else getattr(torch, stated),
        capacity=workload.capacity,
        threads=threads,
    )


def _rebuilds(artifact: Artifact) -> list[Artifact]:
    """The same artifact as further builds of it made it."""
    others: Sequence[str] = artifact.facts.get("builds", ())[1:]
    return [replace(artifact, entry=entry) for entry in others]


def _ideal(models: Models, workload: Workload) -> Mapping[Any, float]:
    dense, pruned = (
        cost(
            models.family.decoder(models.get(variant)),
            batch=workload.batch,
            prefill_length=workload.prefill_length,
            past_length=workload.past_length,
            itemsize=models.get(variant).dtype.itemsize,
        )
        for variant in VARIANTS
    )
    return ideal_speedups(dense, pruned)


def _prompt(windows: Windows, batch: int, length: int) -> Tokens:
    """The first tokens of the evaluation text, repeated where it is too short."""
    return np.resize(windows.tokens, (batch, length))
