"""Candidates of a comparison: models and artifacts named on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from numprune_export.core.errors import DeviceError, InputError
from numprune_export.core.run_folder import ARTIFACTS, MARKER, MODEL, REPORT
from numprune_export.export import targets
from numprune_export.export.artifact import Artifact, Network
from numprune_export.export.exporter import Exporter
from numprune_export.export.runner import Device
from numprune_export.measure.latency.sessions import ReopenedDecoder, ReopenedEncoder
from numprune_export.measure.reference.decoder import TorchRunner
from numprune_export.measure.reference.encoder import TorchEncoderRunner
from numprune_export.models.checkpoint.load import load_source, load_tokenizer
from numprune_export.models.checkpoint.source import Source, resolve
from numprune_export.models.device import placed
from numprune_export.recipe import Benchmark
from numprune_export.workflows.remeasure.finished_run import SWEEP_MARKER, FinishedRun, opened


@dataclass(frozen=True)
class ArtifactCandidate:
    """An exported model."""

    label: str
    artifact: Artifact
    exporter: Exporter
    run: Path | None
    """Run folder that contains it; None: the artifact is not part of a run."""

    @property
    def kind(self) -> Network:
        return self.artifact.network

    @property
    def device(self) -> Device:
        return self.exporter.device

    @property
    def size_bytes(self) -> int:
        return self.artifact.size_bytes

    @property
    def what(self) -> str:
        return f"artifact of `{self.artifact.target}`"

    @cached_property
    def source(self) -> Source | None:
        """Pruned checkpoint of its run, for tokenizer and family; None: no such checkpoint."""
        if self.run is None or not (self.run / MODEL).is_dir():
            return None
        return resolve(str((self.run / MODEL).resolve()), revision=None, search=(), weights=False)

    def conditions(self, device: Device) -> dict[str, Any]:
        facts = self.artifact.facts
        known = {key: facts[key] for key in ("graph", "dtype", "runtime") if key in facts}
        return {"device": self.device, **known}

    def open(self, device: Device, *, threads: int, capacity: int) -> AbstractContextManager[Any]:
        """A runner that can be reopened."""
        reopened = ReopenedEncoder if self.kind == "encoder" else ReopenedDecoder
        return reopened(
            lambda: self.exporter.open(self.artifact, threads=threads, capacity=capacity)
        )


@dataclass(frozen=True)
class ModelCandidate:
    """A model in PyTorch."""

    label: str
    known: Source
    run: Path | None = None
    dtype: torch.dtype = torch.float32

    @property
    def kind(self) -> Network:
        return self.known.family.kind

    @property
    def device(self) -> Device:
        return "cpu"

    @property
    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.known.weights)

    @property
    def what(self) -> str:
        return f"`{self.known.model_type}` in PyTorch"

    @property
    def source(self) -> Source | None:
        return self.known

    def conditions(self, device: Device) -> dict[str, Any]:
        dtype = str(self.dtype).removeprefix("torch.")
        return {"device": device, "dtype": dtype, "runtime": f"torch {torch.__version__}"}

    @cached_property
    def _model(self) -> PreTrainedModel:
        return load_source(self.known, self.dtype).model

    def open(self, device: Device, *, threads: int, capacity: int) -> AbstractContextManager[Any]:
        """A runner on `device`, the device of the artifacts."""
        model = self._model if device == "cpu" else placed(self._model, device, self.dtype)
        cpu_threads = threads if device == "cpu" else None
        family = self.known.family
        if family.kind == "encoder":
            return TorchEncoderRunner(model, family, threads=cpu_threads)
        return TorchRunner(model, threads=cpu_threads)


Candidate = ArtifactCandidate | ModelCandidate


def tokenizer_of(model: Candidate) -> PreTrainedTokenizerBase | None:
    """Tokenizer of a candidate; None: the candidate has no checkpoint."""
    return None if model.source is None else load_tokenizer(model.source)


def candidate(name: str, wanted: Sequence[str] = ()) -> Candidate:
    """Resolve a command-line name: a run, an artifact folder or a model.

    Args:
        name: A run stands for its pruned artifact, or for its pruned model if it has no artifact.
        wanted: Targets to choose from if a run has several; empty: the first that can run here.

    Raises:
        InputError: nothing has that name, or the run is unfinished.
        DeviceError: the artifact cannot run on this machine.
    """
    path = Path(name)
    if (path / MARKER).is_file() or (path / SWEEP_MARKER).is_file():
        with opened(path) as run:
            return _of_run(name, run, wanted)
    if (path / Artifact.INDEX).is_file():
        artifact = Artifact.load(path)
        return _runnable(
            ArtifactCandidate(name, artifact, targets.find(artifact.target), _run(path))
        )
    if path.is_dir() and not (path / "config.json").is_file():
        raise InputError(
            f"`{name}` is neither a run, nor an artifact, nor a model",
            hint="give a run folder, a folder under its `artifacts`, or a Hugging Face folder",
        )
    reference = str(path.resolve()) if path.exists() else name
    return ModelCandidate(name, resolve(reference, revision=None, search=()))


def _of_run(name: str, run: FinishedRun, wanted: Sequence[str]) -> Candidate:
    exported = run.exported(wanted)
    if not exported:
        source = resolve(str(run.model.resolve()), revision=None, search=())
        return ModelCandidate(name, source, run.folder)
    here = [entry for entry in exported if entry.target.cannot_run is None] or list(exported)
    artifact = here[0].artifacts["pruned"]
    return _runnable(ArtifactCandidate(name, artifact, here[0].target.exporter, run.folder))


def _run(artifact: Path) -> Path | None:
    """Run folder of an artifact in `<run>/artifacts/<target>/<variant>`; None: not in a run."""
    folder = artifact.resolve()
    if len(folder.parents) < 3 or folder.parents[1].name != ARTIFACTS:
        return None
    run = folder.parents[2]
    return run if (run / REPORT).is_file() else None


def _runnable(model: ArtifactCandidate) -> ArtifactCandidate:
    here = targets.require_ready(model.exporter)
    if here.cannot_run is not None:
        raise DeviceError(
            f"`{model.label}` ({model.what}) cannot run on this machine: {here.cannot_run}",
            hint="measure it on the machine it was built for",
        )
    return model


@dataclass(frozen=True)
class Candidates:
    """Models of a comparison by key, and the benchmark settings."""

    models: Mapping[str, Candidate]
    settings: Benchmark
    device: Device
    """Device of PyTorch models."""

    @property
    def first(self) -> Candidate:
        return next(iter(self.models.values()))

    def conditions(self) -> dict[str, dict[str, Any]]:
        threads = self.settings.threads
        return {
            key: {"threads": threads, **model.conditions(self.device)}
            for key, model in self.models.items()
        }
