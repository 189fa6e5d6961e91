"""Latency of the models of a comparison, in interleaved rounds."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer
from numprune_export.export.runner import Tokens
from numprune_export.measure.latency import side_by_side
from numprune_export.measure.latency.decoder import DecoderWorkload
from numprune_export.measure.latency.encoder import Bucket, EncoderWorkload
from numprune_export.measure.latency.sessions import Reopened
from numprune_export.measure.latency.timing import Workload
from numprune_export.models.checkpoint.load import skeleton
from numprune_export.pipeline.kinds.latency_rows import protocol_of
from numprune_export.workflows.remeasure.candidate import ArtifactContender, Candidate, Field
from numprune_export.workflows.remeasure.quality import Measure, TextPerplexity

_FEW_TOKENS = 128
"""Token ids that every vocabulary has, where none is known."""


def latency_of(field: Field, measure: Measure | None, observer: Observer) -> Metrics:
    settings = field.settings
    workload = _workload(field, _tokens(field, measure))
    capacity = max(settings.prefill, settings.past + settings.decode_steps)
    with ExitStack() as stack:
        runners: dict[str, Any] = {
            key: stack.enter_context(
                model.open(field.device, threads=settings.threads, capacity=capacity)
            )
            for key, model in field.models.items()
        }
        protocol = protocol_of(settings, observer)
        if not any(isinstance(runner, Reopened) for runner in runners.values()):
            protocol = replace(protocol, sessions=1)
        observer.expect(len(workload.timings(runners)) * protocol.rounds)
        return side_by_side.measure(runners, field.conditions(), workload, protocol)


def _workload(field: Field, tokens: Tokens) -> Workload[Any]:
    settings = field.settings
    if field.first.kind == "decoder":
        prompt = np.resize(tokens, (settings.batch, max(settings.prefill, settings.past)))
        return DecoderWorkload(prompt, settings.prefill, settings.past, settings.decode_steps)
    longest = min(_positions(model) for model in field.models.values())
    buckets = [Bucket(batch, length) for batch in settings.batches for length in settings.lengths]
    return EncoderWorkload(tokens, tuple(one for one in buckets if one.length <= longest))


def _positions(one: Candidate) -> int:
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


def _vocabulary(one: Candidate) -> int | None:
    return None if one.source is None else int(skeleton(one.source).config.vocab_size)
