"""Timing decoders of a run: every target's dense and pruned model, PyTorch's beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from numprune_export.artifact import Artifact, DecoderRunner
from numprune_export.benchmark.cost import cost, ideal_speedups
from numprune_export.benchmark.interleave import Keep
from numprune_export.benchmark.latency import PHASES, Workload, measure_decoders
from numprune_export.benchmark.pairs import Pair
from numprune_export.benchmark.reopened import ReopenedDecoder, reopener
from numprune_export.family import RotaryDecoder
from numprune_export.metric import Metrics
from numprune_export.pipeline.exporting import Exported
from numprune_export.pipeline.measured import facts_of, open_artifact, reference_device
from numprune_export.pipeline.models import VARIANTS, Models
from numprune_export.pipeline.reference_rows import ReferenceRow, reference_rows
from numprune_export.pipeline.subject import Ideal
from numprune_export.progress import Observer
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
    with ExitStack() as stack:
        pairs: dict[str, Pair[DecoderRunner]] = {}
        under = {}
        rebuilds: dict[str, list[DecoderRunner]] = {}
        reopen: dict[str, Callable[[], None]] = {}
        for one in exported:
            opened = [
                stack.enter_context(
                    ReopenedDecoder(
                        partial(open_artifact, one, variant, workload.capacity, settings.threads)
                    )
                )
                for variant in VARIANTS
            ]
            pairs[one.target.name] = Pair(*opened)
            reopen[one.target.name] = reopener(opened)
            under[one.target.name] = {"threads": settings.threads, **facts_of(one)}
            rebuilds[one.target.name] = [
                stack.enter_context(
                    one.target.exporter.open(
                        build, threads=settings.threads, capacity=workload.capacity
                    )
                )
                for build in _rebuilds(one.artifacts["pruned"])
            ]
        if settings.reference or not exported:
            rows = stack.enter_context(_references(models, exported, workload, settings.threads))
            pairs |= {name: row.pair for name, row in rows.items()}
            under |= {name: dict(row.conditions) for name, row in rows.items()}
        return measure_decoders(
            pairs,
            workload,
            ideal=_ideal(family, models, workload)
            if ideal is None
            else {phase: ideal(phase) for phase in PHASES},
            conditions=under,
            rebuilds=rebuilds,
            reopen=reopen,
            seed=settings.seed,
            progress=observer.advance,
            keep=keep,
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
