"""Encoder latency of a run: dense and pruned on every target, and in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from numprune_export.core.progress import Observer
from numprune_export.export.runner import EncoderRunner, Tokens
from numprune_export.measure.cost.encoder import encoder_cost, ideal_speedup
from numprune_export.measure.latency.encoder import Bucket, EncoderWorkload
from numprune_export.measure.latency.pairs import Latencies, LatencyRow, Pair, measure_pairs
from numprune_export.measure.latency.sessions import ReopenedEncoder
from numprune_export.measure.reference.encoder import TorchEncoderRunner
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.pipeline.exported import Exported
from numprune_export.pipeline.kinds.kind import Ideal
from numprune_export.pipeline.kinds.latency_rows import of_torch, protocol_of, target_row
from numprune_export.pipeline.models import VARIANTS, Models
from numprune_export.recipe import Benchmark, Recipe
from numprune_export.recipe.conflicts import timing_of


def measure_latency(
    recipe: Recipe,
    family: BidirectionalEncoder,
    models: Models,
    exported: Sequence[Exported],
    tokens: Tokens,
    observer: Observer,
    ideal: Ideal | None = None,
) -> Latencies:
    """See `measure_pairs`; `ideal` None: computed from both models."""
    settings = recipe.benchmark
    buckets = _buckets(recipe, family.encoder(models.pruned).max_positions)
    protocol = protocol_of(settings, observer)
    observer.expect(sum(bucket.tokens for bucket in buckets) * protocol.rounds)
    if ideal is None:
        ideal = {bucket.timing: _ideal(family, models, bucket) for bucket in buckets}
    with ExitStack() as stack:
        rows = _rows(settings, family, models, exported, stack)
        return measure_pairs(rows, EncoderWorkload(tokens, buckets, ideal), protocol)


def _buckets(recipe: Recipe, longest: int) -> tuple[Bucket, ...]:
    """The recipe's shapes that the model supports, and the shape of its latency budget."""
    settings, wanted = recipe.benchmark, timing_of(recipe.allocate)
    buckets = [Bucket(batch, length) for batch in settings.batches for length in settings.lengths]
    if wanted is not None:
        buckets = list(dict.fromkeys((*buckets, Bucket(wanted.batch, wanted.length))))
    return tuple(bucket for bucket in buckets if bucket.length <= longest)


def _rows(
    settings: Benchmark,
    family: BidirectionalEncoder,
    models: Models,
    exported: Sequence[Exported],
    stack: ExitStack,
) -> dict[str, LatencyRow[EncoderRunner]]:
    """Rows with runners that are open until the stack closes."""
    rows: dict[str, LatencyRow[EncoderRunner]] = {}
    for export in exported:
        open_ = partial(export.target.exporter.open, threads=settings.threads)
        opened = [
            stack.enter_context(ReopenedEncoder(partial(open_, export.artifacts[variant])))
            for variant in VARIANTS
        ]
        rows[export.target.name] = target_row(export, opened, threads=settings.threads)
    if settings.reference or not exported:
        runners = [
            TorchEncoderRunner(models.get(variant), family, threads=settings.threads)
            for variant in VARIANTS
        ]
        pair = Pair(*(stack.enter_context(runner) for runner in runners))
        under = of_torch("cpu", models.pruned.dtype)
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
