"""Verify a model folder, an artifact or a whole run: every file's hash, then whether it opens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from numprune_export.core.errors import InputError, NumpruneError
from numprune_export.core.run_folder import ARTIFACTS, MARKER, MODEL, RECIPE, REPORT, finished
from numprune_export.export.artifact import Artifact
from numprune_export.models.checkpoint import manifest
from numprune_export.models.checkpoint.manifest import Difference
from numprune_export.provenance import sbom
from numprune_export.provenance.record import Provenance, weights_of
from numprune_export.provenance.reopening import reload_model, reopen
from numprune_export.report import store
from numprune_export.report.schema import Report

_HEADS = (Artifact.INDEX, "config.json")


@dataclass(frozen=True)
class Checked:
    """One folder, or one file of a run, and what became of it."""

    place: str
    """Relative to what was asked about."""
    files: int
    size_bytes: int
    differences: tuple[Difference, ...]
    """Named relative to what was asked about."""
    opened: str
    """What was opened and how, or why not."""


def verify(path: Path) -> Iterator[Checked]:
    """Check `path`, part by part; what is not what was written is told and not opened.

    Raises:
        InputError: it is no folder that this tool wrote, or it does not say what it should be.
        OutputError: a run is at work in it.
    """
    if (path / MARKER).is_file():
        with finished(path):
            yield from _run(path)
    elif not any((path / name).is_file() for name in (manifest.NAME, *_HEADS)):
        raise InputError(
            f"`{path}` is not a folder that numprune-export wrote",
            hint="give a run folder, its `model`, or a folder under its `artifacts`",
        )
    elif Artifact.INDEX in manifest.read(path).files:
        yield _artifact(path, ".")
    else:
        yield _model(path, ".")


def _run(run: Path) -> Iterator[Checked]:
    yield _model(run / MODEL, MODEL)
    for content in sorted((run / ARTIFACTS).glob(f"*/*/{manifest.NAME}")):
        place = content.parent.relative_to(run).as_posix()
        yield _artifact(content.parent, place, weights_of(run / MODEL))
    yield _report(run)


def _model(folder: Path, place: str) -> Checked:
    path, told = folder / sbom.NAME, list[Difference]()
    if path.is_file():
        text = path.read_text(encoding="utf-8", errors="replace")
        told = list(sbom.differences(text, manifest.read(folder)))
    return _checked(folder, place, reload_model, told)


def _artifact(folder: Path, place: str, weights: Mapping[str, str] | None = None) -> Checked:
    """Its manifest, its own index against that, and the model it says it came from."""
    content = manifest.read(folder)
    listed = {name: entry.sha256 for name, entry in content.files.items()}
    found = Provenance.of(content, folder)
    told = []
    if (folder / Artifact.INDEX).is_file():
        told = [
            Difference(name, f"has another sha256 in `{Artifact.INDEX}`")
            for name, digest in Artifact.load(folder).files.items()
            if listed.get(name) != digest
        ]
    if weights is not None and found.variant == "pruned" and found.weights != weights:
        told.append(Difference(manifest.NAME, "names another pruned model than this run's"))
    return _checked(folder, place, reopen, told)


def _checked(
    folder: Path, place: str, opening: Callable[[Path], str], told: list[Difference] | None = None
) -> Checked:
    content = manifest.read(folder)
    found = [*(told or []), *manifest.differences(folder, content)]
    opened = "not opened"
    if not found:
        try:
            opened = opening(folder)
        except NumpruneError as error:
            found.append(Difference(".", f"does not open: {error}"))
    size = sum(entry.bytes for entry in content.files.values())
    named = tuple(Difference((Path(place) / one.name).as_posix(), one.how) for one in found)
    return Checked(place, len(content.files), size, named, opened)


def _report(run: Path) -> Checked:
    """The report against what it speaks of."""
    path = run / REPORT
    report, seal = store.read_sealed(path)
    told = list(_unlike(run, report))
    if seal == "edited":
        told.append(Difference(REPORT, "was edited: its own sha256 differs"))
    return Checked(REPORT, 1, path.stat().st_size, tuple(told), "read")


def _unlike(run: Path, report: Report) -> Iterator[Difference]:
    if yaml.safe_load((run / RECIPE).read_text(encoding="utf-8")) != report.recipe:
        yield Difference(RECIPE, "is not the recipe of the report")
    for name, one in report.artifacts.items():
        folder = run / one.folder
        if not (folder / manifest.NAME).is_file():
            yield Difference(one.folder, f"has no `{manifest.NAME}`, and the report names it")
        elif (folder / Artifact.INDEX).is_file() and Artifact.load(folder).files != one.files:
            yield Difference(one.folder, f"is not the `{name}` of the report")
