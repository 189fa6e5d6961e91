"""Compare models, artifacts and runs; the first is the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

import torch

from numprune_export.core.errors import IncomparableError
from numprune_export.core.metric import Metric, Metrics
from numprune_export.core.progress import Observer, shown
from numprune_export.export.runner import Device
from numprune_export.measure.environment import describe
from numprune_export.measure.memory.peak import measure_memory
from numprune_export.recipe import Benchmark
from numprune_export.report.schema import measurements
from numprune_export.workflows.remeasure.candidate import (
    ArtifactCandidate,
    Candidate,
    Candidates,
    candidate,
)
from numprune_export.workflows.remeasure.compare_output import Compared, Side
from numprune_export.workflows.remeasure.finished_run import opened
from numprune_export.workflows.remeasure.latency import latency_of
from numprune_export.workflows.remeasure.quality import measure_of, quality_of
from numprune_export.workflows.remeasure.rerun import Protocol

_ARTICLE = {"decoder": "a decoder", "encoder": "an encoder"}


def compare(
    names: Sequence[str],
    protocol: Protocol,
    *,
    text: Path | None,
    search: Sequence[Path] = (),
    observer: Observer,
    memory: bool = False,
) -> Compared:
    """Measure latency, size and, if comparable, quality.

    Args:
        names: Runs, artifacts and models; the first is the reference.
        protocol: Changes to the benchmark settings of the first run's recipe, or to the defaults.
        text: Evaluation text of decoders; None: the evaluation text of the first candidate's run.
        search: Folders searched for relative paths of that run's recipe.
        observer: Receives progress.
        memory: Measure the artifacts' memory too.

    Raises:
        IncomparableError: the candidates mix decoders and encoders.
        NumpruneError: a candidate cannot be found or cannot run here.
    """
    models = {_key(number): candidate(name, protocol.targets) for number, name in enumerate(names)}
    _refuse_unlike(list(models.values()))
    candidates = Candidates(models, _settings(models, protocol), _device(models))
    measure, notes = measure_of(candidates, text, search)
    notes += _families(list(models.values()))
    metrics: Metrics = {
        f"size.{key}.bytes": Metric(model.size_bytes, "bytes", 1) for key, model in models.items()
    }
    with shown(observer, "latency"):
        metrics |= latency_of(candidates, measure, observer)
    if measure is not None:
        with shown(observer, "quality"):
            scores, more = quality_of(candidates, measure, observer)
            metrics, notes = metrics | scores, notes + more
    if memory:
        with shown(observer, "memory"):
            metrics |= _memory(candidates)
    return Compared(
        created=datetime.now(timezone.utc),
        sides=tuple(
            Side(key=key, label=model.label, what=model.what, size_bytes=model.size_bytes)
            for key, model in models.items()
        ),
        metrics=measurements(metrics),
        notes=tuple(notes),
        environment=describe(),
    )


def _key(number: int) -> str:
    """`A`, `B`, ... `Z`, `A1`, ..."""
    return chr(ord("A") + number % 26) + (str(number // 26) if number >= 26 else "")


def _refuse_unlike(models: Sequence[Candidate]) -> None:
    for model in models[1:]:
        if model.kind != models[0].kind:
            raise IncomparableError(
                f"`{models[0].label}` is {_ARTICLE[models[0].kind]} and `{model.label}`"
                f" {_ARTICLE[model.kind]}: they do different work",
                hint="compare decoders with decoders, and encoders with encoders",
            )


def _settings(models: Mapping[str, Candidate], protocol: Protocol) -> Benchmark:
    run = next(iter(models.values())).run
    settings = Benchmark()
    if run is not None:
        with opened(run) as finished:
            settings = finished.recipe.benchmark
    return Benchmark.model_validate({**settings.model_dump(), **protocol.changes()})


def _device(models: Mapping[str, Candidate]) -> Device:
    gpu = any(model.device == "cuda" for model in models.values())
    return "cuda" if gpu and torch.cuda.is_available() else "cpu"


def _families(models: Sequence[Candidate]) -> list[str]:
    known = {model.label: model.source.model_type for model in models if model.source is not None}
    if len(set(known.values())) < 2:
        return []
    kinds = ", ".join(f"`{label}` is a `{kind}`" for label, kind in known.items())
    return [f"different architectures: {kinds}"]


def _memory(candidates: Candidates) -> Metrics:
    settings, metrics = candidates.settings, Metrics()
    encoder = candidates.first.kind == "encoder"
    for key, model in candidates.models.items():
        if isinstance(model, ArtifactCandidate):
            target = model.artifact.target
            measured = measure_memory(
                target,
                {key: model.artifact.folder},
                threads=settings.threads,
                batch=max(settings.batches) if encoder else settings.batch,
                prompt_tokens=max(settings.lengths) if encoder else settings.prefill,
                decode_steps=0 if encoder else settings.decode_steps,
            )
            metrics |= {
                name.replace(f"memory.{target}.{key}", f"memory.{key}"): value
                for name, value in measured.items()
            }
    return metrics
