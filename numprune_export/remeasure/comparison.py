"""Models, artifacts and runs side by side: the first is what the others are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from numprune_export.artifact import Device, Tokens
from numprune_export.benchmark import encoder_latency, latency, side_by_side
from numprune_export.benchmark.encoder_latency import Bucket, EncoderWorkload
from numprune_export.benchmark.latency import Workload
from numprune_export.benchmark.memory import measure_memory
from numprune_export.benchmark.reopened import Reopened, reopener
from numprune_export.benchmark.timing import Timing
from numprune_export.checkpoint.load import skeleton
from numprune_export.errors import IncomparableError, NumpruneError
from numprune_export.metric import Metric, Metrics
from numprune_export.progress import Observer, shown
from numprune_export.recipe import Benchmark
from numprune_export.remeasure.again import Protocol
from numprune_export.remeasure.compared import Compared, Side
from numprune_export.remeasure.contender import ArtifactContender, Contender, contender
from numprune_export.remeasure.finished_run import opened
from numprune_export.remeasure.same_task import same_task
from numprune_export.remeasure.subject_again import reopen
from numprune_export.remeasure.text_quality import (
    Measure,
    TextPerplexity,
    alike,
    read_text,
    windows_of,
)
from numprune_export.report.environment import describe
from numprune_export.report.schema import measurements

_ARTICLE = {"decoder": "a decoder", "encoder": "an encoder"}
_FEW_TOKENS = 128
"""Token ids that every vocabulary has, where none is known."""


@dataclass(frozen=True)
class Field:
    """The models of a comparison, by a short key, and how they are timed."""

    models: Mapping[str, Contender]
    settings: Benchmark
    device: Device
    """Where models in PyTorch run."""

    @property
    def first(self) -> Contender:
        return next(iter(self.models.values()))

    def conditions(self) -> dict[str, dict[str, Any]]:
        threads = self.settings.threads
        return {
            key: {"threads": threads, **one.conditions(self.device)}
            for key, one in self.models.items()
        }


def compare(
    names: Sequence[str],
    protocol: Protocol,
    *,
    text: Path | None,
    search: Sequence[Path] = (),
    observer: Observer,
    memory: bool = False,
) -> Compared:
    """Latency, size and, where it can be compared, quality.

    Args:
        names: Runs, artifacts and models; the first is the reference.
        protocol: What differs from the first run's recipe, or from the defaults.
        text: What decoders are measured on; None: what the first one's run was evaluated on.
        search: Where that run's recipe finds its files.
        observer: Told of progress.
        memory: Measure the artifacts' memory too.

    Raises:
        IncomparableError: one is a decoder and another an encoder.
        NumpruneError: something cannot be found or cannot run here.
    """
    models = {_key(number): contender(one, protocol.targets) for number, one in enumerate(names)}
    _refuse_unlike(list(models.values()))
    field = Field(models, _settings(models, protocol), _device(models))
    measure, notes = _measure(field, text, search)
    notes += _families(list(models.values()))
    metrics: Metrics = {
        f"size.{key}.bytes": Metric(one.size_bytes, "bytes", 1) for key, one in models.items()
    }
    with shown(observer, "latency"):
        metrics |= _latency(field, measure, observer)
    if measure is not None:
        with shown(observer, "quality"):
            found, more = _quality(field, measure, observer)
            metrics, notes = metrics | found, notes + more
    if memory:
        with shown(observer, "memory"):
            metrics |= _memory(field)
    return Compared(
        created=datetime.now(timezone.utc),
        sides=tuple(
            Side(key=key, label=one.label, what=one.what, size_bytes=one.size_bytes)
            for key, one in models.items()
        ),
        metrics=measurements(metrics),
        notes=tuple(notes),
        environment=describe(),
    )


def _key(number: int) -> str:
    """`A`, `B`, ... `Z`, `A1`, ..."""
    return chr(ord("A") + number % 26) + (str(number // 26) if number >= 26 else "")


def _refuse_unlike(models: Sequence[Contender]) -> None:
    for one in models[1:]:
        if one.kind != models[0].kind:
            raise IncomparableError(
                f"`{models[0].label}` is {_ARTICLE[models[0].kind]} and `{one.label}`"
                f" {_ARTICLE[one.kind]}: they do different work",
                hint="compare decoders with decoders, and encoders with encoders",
            )


def _settings(models: Mapping[str, Contender], protocol: Protocol) -> Benchmark:
    run = next(iter(models.values())).run
    settings = Benchmark()
    if run is not None:
        with opened(run) as found:
            settings = found.recipe.benchmark
    return Benchmark.model_validate({**settings.model_dump(), **protocol.changes()})


def _device(models: Mapping[str, Contender]) -> Device:
    gpu = any(one.device == "cuda" for one in models.values())
    return "cuda" if gpu and torch.cuda.is_available() else "cpu"


def _families(models: Sequence[Contender]) -> list[str]:
    known = {one.label: one.source.model_type for one in models if one.source is not None}
    if len(set(known.values())) < 2:
        return []
    told = ", ".join(f"`{label}` is a `{kind}`" for label, kind in known.items())
    return [f"different architectures: {told}"]


def _measure(
    field: Field, text: Path | None, search: Sequence[Path]
) -> tuple[Measure | None, list[str]]:
    """What quality is measured by, and why there is nothing, in a sentence."""
    first = field.first
    if text is not None:
        if first.kind == "encoder":
            raise IncomparableError(
                "`--text` is for language models: an encoder's quality needs labelled examples",
                hint="leave `--text` out: the examples of the first one's run are taken",
            )
        return TextPerplexity(windows_of(read_text(text), first)), []
    if first.run is None:
        what = "labelled examples" if first.kind == "encoder" else "a text (or give it by `--text`)"
        return None, [f"quality is not measured: `{first.label}` is not of a run that has {what}"]
    try:
        with opened(first.run) as run:
            return _OfRun(reopen(run, search).subject), []
    except IncomparableError:
        raise
    except NumpruneError as error:
        return None, [f"quality is not measured: {error}"]


@dataclass(frozen=True)
class _OfRun:
    """What a run was evaluated on."""

    subject: Any

    @property
    def longest(self) -> int:
        return int(self.subject.calibration.tokens.shape[1])

    @property
    def steps(self) -> int:
        return int(self.subject.evaluated)

    def scores(self, runner: Any, under: Mapping[str, Any], observer: Observer) -> Metrics:
        found: Metrics = self.subject.scores(runner, under, observer)
        return found


def _latency(field: Field, measure: Measure | None, observer: Observer) -> Metrics:
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
        timings, rounds = _timings(field, runners, tokens)
        again: dict[str, Reopened[Any]] = {
            key: one for key, one in runners.items() if isinstance(one, Reopened)
        }
        observer.expect(rounds)
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
        return encoder_latency.timings(runners, shapes), len(buckets) * shapes.rounds
    prompt = np.resize(tokens, (settings.batch, max(settings.prefill, settings.past)))
    work = Workload(
        prompt, settings.prefill, settings.past, settings.decode_steps, settings.warmup,
        settings.samples, settings.sessions,
    )  # fmt: skip
    timings = latency.timings(runners, work)
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


def _quality(field: Field, measure: Measure, observer: Observer) -> tuple[Metrics, list[str]]:
    same, notes = _comparable(field, measure)
    chosen = {key: one for (key, one), fits in zip(field.models.items(), same, strict=True) if fits}
    observer.expect(len(chosen) * measure.steps)
    conditions, found = field.conditions(), dict[str, Metrics]()
    for key, one in chosen.items():
        threads = field.settings.threads
        with one.open(field.device, threads=threads, capacity=measure.longest) as runner:
            found[key] = measure.scores(runner, conditions[key], observer)
    scores = dict.fromkeys(score for one in found.values() for score in one)
    metrics = {
        f"quality.{score}.{key}": one[score] for score in scores for key, one in found.items()
    }
    return metrics, notes


def _comparable(field: Field, measure: Measure) -> tuple[list[bool], list[str]]:
    """Whose quality is measured, and why that of others is not."""
    models = list(field.models.values())
    same, notes = alike(models)
    if field.first.kind == "encoder":
        fit, more = same_task(models, measure.longest)
        same, notes = [a and b for a, b in zip(same, fit, strict=True)], notes + more
    return same, notes


def _memory(field: Field) -> Metrics:
    settings, found = field.settings, Metrics()
    encoder = field.first.kind == "encoder"
    for key, one in field.models.items():
        if isinstance(one, ArtifactContender):
            target = one.artifact.target
            seen = measure_memory(
                target,
                {key: one.artifact.folder},
                threads=settings.threads,
                batch=max(settings.batches) if encoder else settings.batch,
                prompt_tokens=max(settings.lengths) if encoder else settings.prefill,
                decode_steps=0 if encoder else settings.decode_steps,
            )
            found |= {
                name.replace(f"memory.{target}.{key}", f"memory.{key}"): value
                for name, value in seen.items()
            }
    return found
