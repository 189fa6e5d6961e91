"""Timing encoders of a run: every target's dense and pruned model, PyTorch's beside them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer
from numprune_export.export.artifact import Tokens
from numprune_export.export.encoder import EncoderRunner
from numprune_export.measure.cost.encoder import encoder_cost, ideal_speedup
from numprune_export.measure.latency.encoder import Bucket, EncoderWorkload, measure_encoders
from numprune_export.measure.latency.interleave import Keep
from numprune_export.measure.latency.pairs import Pair
from numprune_export.measure.latency.sessions import ReopenedEncoder
from numprune_export.measure.reference.encoder import TorchEncoderRunner
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.pipeline.kinds import latency_rows
from numprune_export.pipeline.kinds.encoder_target import encoder_target
from numprune_export.pipeline.kinds.kind import Ideal
from numprune_export.pipeline.kinds.latency_rows import LatencyRow
from numprune_export.pipeline.models import VARIANTS, Models
from numprune_export.pipeline.stages.export import Exported
from numprune_export.recipe import Benchmark, Recipe
from numprune_export.recipe.conflicts import timing_of


def measure_latency(
    recipe: Recipe,
    family: BidirectionalEncoder,
    models: Models,
    exported: Sequence[Exported],
    tokens: Tokens,
    observer: Observer,
    keep: Keep,
    ideal: Ideal | None = None,
) -> Metrics:
    """See `measure_encoders`; `ideal` None: computed from both models."""
    settings = recipe.benchmark
    buckets = _buckets(recipe, family.encoder(models.pruned).max_positions)
    workload = EncoderWorkload(
        tokens, buckets, settings.warmup, settings.samples, settings.sessions
    )
    observer.expect(workload.work)
    with ExitStack() as stack:
        rows = _rows(settings, family, models, exported, stack)
        return measure_encoders(
            latency_rows.pairs(rows),
            workload,
            ideal=partial(_ideal, family, models)
            if ideal is None
            else lambda bucket: ideal(bucket.name),
            conditions=latency_rows.conditions(rows),
            reopen=latency_rows.reopen(rows),
            seed=settings.seed,
            progress=observer.advance,
            keep=keep,
        )


def _buckets(recipe: Recipe, longest: int) -> tuple[Bucket, ...]:
    """The shapes of the recipe that fit the model, and that of its budget in milliseconds."""
    settings, wanted = recipe.benchmark, timing_of(recipe.allocate)
    buckets = [Bucket(batch, length) for batch in settings.batches for length in settings.lengths]
    if wanted is not None:
        buckets = list(dict.fromkeys((*buckets, Bucket(wanted.batch, wanted.length))))
    return tuple(one for one in buckets if one.length <= longest)


def _rows(
    settings: Benchmark,
    family: BidirectionalEncoder,
    models: Models,
    exported: Sequence[Exported],
    stack: ExitStack,
) -> dict[str, LatencyRow[EncoderRunner]]:
    """Open until the stack is closed."""
    rows: dict[str, LatencyRow[EncoderRunner]] = {}
    for one in exported:
        target = encoder_target(one.target.exporter)
        openers = [
            partial(target.open_encoder, one.artifacts[variant], threads=settings.threads)
            for variant in VARIANTS
        ]
        opened = [stack.enter_context(ReopenedEncoder(opener)) for opener in openers]
        rows[one.target.name] = latency_rows.target_row(one, opened, threads=settings.threads)
    if settings.reference or not exported:
        runners = [
            TorchEncoderRunner(models.get(variant), family, threads=settings.threads)
            for variant in VARIANTS
        ]
        pair = Pair(*(stack.enter_context(one) for one in runners))
        under = latency_rows.of_torch("cpu", models.pruned.dtype)
        rows["torch"] = LatencyRow(pair, {"threads": settings.threads, **under})
    return rows


def _ideal(family: BidirectionalEncoder, models: Models, bucket: Bucket) -> float:
    costs = [
        encoder_cost(
            family.encoder(models.get(variant)),
            batch=bucket.batch,
            length=bucket.length,
            itemsize=models.get(variant).dtype.itemsize,
        )
        for variant in VARIANTS
    ]
    return ideal_speedup(*costs)
