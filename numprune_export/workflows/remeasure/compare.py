"""Models, artifacts and runs side by side: the first is what the others are compared with."""

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
    ArtifactContender,
    Candidate,
    Field,
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
    models = {_key(number): candidate(one, protocol.targets) for number, one in enumerate(names)}
    _refuse_unlike(list(models.values()))
    field = Field(models, _settings(models, protocol), _device(models))
    measure, notes = measure_of(field, text, search)
    notes += _families(list(models.values()))
    metrics: Metrics = {
        f"size.{key}.bytes": Metric(one.size_bytes, "bytes", 1) for key, one in models.items()
    }
    with shown(observer, "latency"):
        metrics |= latency_of(field, measure, observer)
    if measure is not None:
        with shown(observer, "quality"):
            found, more = quality_of(field, measure, observer)
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


def _refuse_unlike(models: Sequence[Candidate]) -> None:
    for one in models[1:]:
        if one.kind != models[0].kind:
            raise IncomparableError(
                f"`{models[0].label}` is {_ARTICLE[models[0].kind]} and `{one.label}`"
                f" {_ARTICLE[one.kind]}: they do different work",
                hint="compare decoders with decoders, and encoders with encoders",
            )


def _settings(models: Mapping[str, Candidate], protocol: Protocol) -> Benchmark:
    run = next(iter(models.values())).run
    settings = Benchmark()
    if run is not None:
        with opened(run) as found:
            settings = found.recipe.benchmark
    return Benchmark.model_validate({**settings.model_dump(), **protocol.changes()})


def _device(models: Mapping[str, Candidate]) -> Device:
    gpu = any(one.device == "cuda" for one in models.values())
    return "cuda" if gpu and torch.cuda.is_available() else "cpu"


def _families(models: Sequence[Candidate]) -> list[str]:
    known = {one.label: one.source.model_type for one in models if one.source is not None}
    if len(set(known.values())) < 2:
        return []
    told = ", ".join(f"`{label}` is a `{kind}`" for label, kind in known.items())
    return [f"different architectures: {told}"]


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
