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
from numprune_export.workflows.remeasure.candidate import ArtifactCandidate, Candidate, Candidates
from numprune_export.workflows.remeasure.quality import Measure, TextPerplexity

_FEW_TOKENS = 128
"""Vocabulary size assumed if no candidate's is known."""


def latency_of(candidates: Candidates, measure: Measure | None, observer: Observer) -> Metrics:
    settings = candidates.settings
    workload = _workload(candidates, _tokens(candidates, measure))
    capacity = max(settings.prefill, settings.past + settings.decode_steps)
    with ExitStack() as stack:
        runners: dict[str, Any] = {
            key: stack.enter_context(
                model.open(candidates.device, threads=settings.threads, capacity=capacity)
            )
            for key, model in candidates.models.items()
        }
        protocol = protocol_of(settings, observer)
        if not any(isinstance(runner, Reopened) for runner in runners.values()):
            protocol = replace(protocol, sessions=1)
        timings = workload.timings(runners)
        observer.expect(sum(timing.work for timing in timings.values()) * protocol.rounds)
        return side_by_side.measure(runners, candidates.conditions(), workload, protocol)


def _workload(candidates: Candidates, tokens: Tokens) -> Workload[Any]:
    settings = candidates.settings
    if candidates.first.kind == "decoder":
        prompt = np.resize(tokens, (settings.batch, max(settings.prefill, settings.past)))
        return DecoderWorkload(prompt, settings.prefill, settings.past, settings.decode_steps)
    longest = min(_positions(model) for model in candidates.models.values())
    buckets = [Bucket(batch, length) for batch in settings.batches for length in settings.lengths]
    return EncoderWorkload(tokens, tuple(bucket for bucket in buckets if bucket.length <= longest))


def _positions(model: Candidate) -> int:
    """Maximum input length in tokens."""
    if isinstance(model, ArtifactCandidate):
        return int(model.artifact.facts["max_positions"])
    config = skeleton(model.known).config
    return int(config.max_position_embeddings)


def _tokens(candidates: Candidates, measure: Measure | None) -> Tokens:
    """Windows of the text, or random token ids that are in every vocabulary; (windows, tokens)."""
    if isinstance(measure, TextPerplexity):
        return measure.windows
    known = [_vocabulary(model) for model in candidates.models.values()]
    least = min((size for size in known if size is not None), default=_FEW_TOKENS)
    generator = np.random.default_rng(candidates.settings.seed)
    return generator.integers(least // 4, least, (32, 512), dtype=np.int64)


def _vocabulary(model: Candidate) -> int | None:
    return None if model.source is None else int(skeleton(model.source).config.vocab_size)
