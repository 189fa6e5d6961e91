"""Decoder latency of a run: dense and pruned on every target, and in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial

import torch

from numprune_export.core.progress import Observer
from numprune_export.export.runner import DecoderRunner
from numprune_export.measure.cost.decoder import cost, ideal_speedups
from numprune_export.measure.latency.decoder import PHASES, DecoderWorkload
from numprune_export.measure.latency.pairs import Latencies, LatencyRow, measure_pairs
from numprune_export.measure.latency.sessions import ReopenedDecoder
from numprune_export.models.decoder import RotaryDecoder
from numprune_export.pipeline.exported import Exported, reference_device
from numprune_export.pipeline.kinds.kind import Ideal
from numprune_export.pipeline.kinds.latency_rows import protocol_of, reference_rows, target_row
from numprune_export.pipeline.models import VARIANTS, Models
from numprune_export.recipe import Benchmark


def measure_latency(
    settings: Benchmark,
    family: RotaryDecoder,
    models: Models,
    exported: Sequence[Exported],
    workload: DecoderWorkload,
    observer: Observer,
    ideal: Ideal | None = None,
) -> Latencies:
    """See `measure_pairs`; `ideal` None: computed from both models."""
    if ideal is None:
        ideal = _ideal(family, models, workload)
    protocol, threads = protocol_of(settings, observer), settings.threads
    observer.expect(len(PHASES) * protocol.rounds)
    with ExitStack() as stack:
        rows: dict[str, LatencyRow[DecoderRunner]] = {
            export.target.name: _row(export, workload.capacity, threads, stack)
            for export in exported
        }
        if settings.reference or not exported:
            rows |= stack.enter_context(_references(models, exported, workload, threads))
        return measure_pairs(rows, replace(workload, ideal=ideal), protocol)


def _row(
    exported: Exported, capacity: int, threads: int, stack: ExitStack
) -> LatencyRow[DecoderRunner]:
    """Runners of both artifacts and of further pruned builds, open until the stack closes."""
    pruned = exported.artifacts["pruned"]
    builds: Sequence[str] = pruned.facts.get("builds", ())[1:]
    artifacts = [exported.artifacts["dense"], pruned]
    artifacts += [replace(pruned, entry=entry) for entry in builds]
    open_ = partial(exported.target.exporter.open, threads=threads, capacity=capacity)
    dense_runner, pruned_runner, *rebuilds = (
        stack.enter_context(ReopenedDecoder(partial(open_, artifact))) for artifact in artifacts
    )
    return target_row(exported, (dense_runner, pruned_runner), threads=threads, rebuilds=rebuilds)


def _references(
    models: Models, exported: Sequence[Exported], workload: DecoderWorkload, threads: int
) -> AbstractContextManager[dict[str, LatencyRow[DecoderRunner]]]:
    """PyTorch rows on the device of the artifacts; on a GPU also in their dtype."""
    device = reference_device(exported)
    on_gpu = [export for export in exported if export.target.exporter.device == "cuda"]
    dtype = on_gpu[0].artifacts["pruned"].facts["dtype"] if device == "cuda" else None
    return reference_rows(
        models.dense,
        models.pruned,
        device=device,
        dtype=None if dtype is None else getattr(torch, dtype),
        capacity=workload.capacity,
        threads=threads,
    )


def _ideal(family: RotaryDecoder, models: Models, workload: DecoderWorkload) -> Ideal:
    dense, pruned = (
        cost(
            family.decoder(models.get(variant)),
            batch=workload.batch,
            prefill_length=workload.prefill_length,
            past_length=workload.past_length,
            itemsize=models.get(variant).dtype.itemsize,
        )
        for variant in VARIANTS
    )
    return ideal_speedups(dense, pruned)
