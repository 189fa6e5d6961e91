"""Latency of the models of a comparison, in interleaved rounds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer
from numprune_export.export.artifact import Tokens
from numprune_export.measure.latency import decoder as decoder_latency
from numprune_export.measure.latency import encoder as encoder_latency
from numprune_export.measure.latency import side_by_side
from numprune_export.measure.latency.decoder import Workload
from numprune_export.measure.latency.encoder import Bucket, EncoderWorkload
from numprune_export.measure.latency.sessions import Reopened, reopener
from numprune_export.measure.latency.timing import Timing
from numprune_export.models.checkpoint.load import skeleton
from numprune_export.workflows.remeasure.candidate import ArtifactContender, Contender
from numprune_export.workflows.remeasure.field import Field
from numprune_export.workflows.remeasure.text_quality import Measure, TextPerplexity

_FEW_TOKENS = 128
"""Token ids that every vocabulary has, where none is known."""


def latency_of(field: Field, measure: Measure | None, observer: Observer) -> Metrics:
    settings = field.settings
    tokens = _tokens(field, measure)
    capacity = max(settings.prefill, settings.past + settings.decode_steps)
    with ExitStack() as stack:
        runners = {
            key: stack.enter_context(
                one.open(field.device, threads=settings.threads, capacity=capacity)
            )
            for key, one in field.models.items()
        }
        timings, steps = _timings(field, runners, tokens)
        again: dict[str, Reopened[Any]] = {
            key: one for key, one in runners.items() if isinstance(one, Reopened)
        }
        observer.expect(steps)
        return side_by_side.measure(
            timings,
            warmup=settings.warmup,
            samples=settings.samples,
            sessions=settings.sessions if again else 1,
            conditions=field.conditions(),
            reopen=reopener(list(again.values())) if again else None,
            reopened=set(again),
            seed=settings.seed,
            progress=observer.advance,
        )


def _timings(
    field: Field, runners: Mapping[str, Any], tokens: Tokens
) -> tuple[dict[str, Timing], int]:
    settings = field.settings
    if field.first.kind == "encoder":
        longest = min(_positions(one) for one in field.models.values())
        buckets = tuple(
            Bucket(batch, length)
            for batch in settings.batches
            for length in settings.lengths
            if length <= longest
        )
        shapes = EncoderWorkload(
            tokens, buckets, settings.warmup, settings.samples, settings.sessions
        )
        return encoder_latency.timings(runners, shapes), shapes.work
    prompt = np.resize(tokens, (settings.batch, max(settings.prefill, settings.past)))
    work = Workload(
        prompt, settings.prefill, settings.past, settings.decode_steps, settings.warmup,
        settings.samples, settings.sessions,
    )  # fmt: skip
    timings = decoder_latency.timings(runners, work)
    return timings, len(timings) * work.rounds


def _positions(one: Contender) -> int:
    """The longest text that it takes."""
    if isinstance(one, ArtifactContender):
        return int(one.artifact.facts["max_positions"])
    config = skeleton(one.known).config
    return int(config.max_position_embeddings)


def _tokens(field: Field, measure: Measure | None) -> Tokens:
    """What is run: a part of the text, or token ids that every model here has."""
    if isinstance(measure, TextPerplexity):
        return measure.windows
    known = [_vocabulary(one) for one in field.models.values()]
    least = min((one for one in known if one is not None), default=_FEW_TOKENS)
    generator = np.random.default_rng(field.settings.seed)
    return generator.integers(least // 4, least, (32, 512), dtype=np.int64)


def _vocabulary(one: Contender) -> int | None:
    return None if one.source is None else int(skeleton(one.source).config.vocab_size)
