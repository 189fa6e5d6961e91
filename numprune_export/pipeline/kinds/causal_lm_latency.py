"""Timing decoders of a run: every target's dense and pruned model, PyTorch's beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer
from numprune_export.export.runner import DecoderRunner
from numprune_export.measure.cost.decoder import cost, ideal_speedups
from numprune_export.measure.latency.decoder import PHASES, Workload, measure_decoders
from numprune_export.measure.latency.interleave import Keep
from numprune_export.measure.latency.sessions import ReopenedDecoder
from numprune_export.models.decoder import RotaryDecoder
from numprune_export.pipeline.exported import Exported, open_artifact, reference_device
from numprune_export.pipeline.kinds import latency_rows
from numprune_export.pipeline.kinds.kind import Ideal
from numprune_export.pipeline.kinds.latency_rows import LatencyRow, reference_rows
from numprune_export.pipeline.models import VARIANTS, Models
from numprune_export.recipe import Benchmark


def measure_latency(
    settings: Benchmark,
    family: RotaryDecoder,
    models: Models,
    exported: Sequence[Exported],
    workload: Workload,
    observer: Observer,
    keep: Keep,
    ideal: Ideal | None = None,
) -> Metrics:
    """See `measure_decoders`; `ideal` None: computed from both models."""
    observer.expect(len(PHASES) * workload.rounds)
    threads = settings.threads
    with ExitStack() as stack:
        rows: dict[str, LatencyRow[DecoderRunner]] = {}
        rebuilds: dict[str, list[DecoderRunner]] = {}
        for one in exported:
            rows[one.target.name] = _row(one, workload, threads, stack)
            rebuilds[one.target.name] = _rebuilds(one, workload, threads, stack)
        if settings.reference or not exported:
            rows |= stack.enter_context(_references(models, exported, workload, threads))
        return measure_decoders(
            latency_rows.pairs(rows),
            workload,
            ideal=_ideal(family, models, workload)
            if ideal is None
            else {phase: ideal(phase) for phase in PHASES},
            conditions=latency_rows.conditions(rows),
            rebuilds=rebuilds,
            reopen=latency_rows.reopen(rows),
            seed=settings.seed,
            progress=observer.advance,
            keep=keep,
        )


def _row(
    exported: Exported, workload: Workload, threads: int, stack: ExitStack
) -> LatencyRow[DecoderRunner]:
    """Both artifacts of a target, open until the stack is closed."""
    openers = [
        partial(open_artifact, exported, variant, workload.capacity, threads)
        for variant in VARIANTS
    ]
    opened = [stack.enter_context(ReopenedDecoder(opener)) for opener in openers]
    return latency_rows.target_row(exported, opened, threads=threads)


def _rebuilds(
    exported: Exported, workload: Workload, threads: int, stack: ExitStack
) -> list[DecoderRunner]:
    """The pruned artifact as further builds of it made it, open until the stack is closed."""
    artifact = exported.artifacts["pruned"]
    others: Sequence[str] = artifact.facts.get("builds", ())[1:]
    open_build = exported.target.exporter.open
    return [
        stack.enter_context(
            open_build(replace(artifact, entry=entry), threads=threads, capacity=workload.capacity)
        )
        for entry in others
    ]


def _references(
    models: Models, exported: Sequence[Exported], workload: Workload, threads: int
) -> AbstractContextManager[dict[str, LatencyRow[DecoderRunner]]]:
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


def _ideal(family: RotaryDecoder, models: Models, workload: Workload) -> Mapping[Any, float]:
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
