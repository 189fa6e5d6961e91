"""Verify a model folder, an artifact or a run: check all hashes, then open it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from numprune_export.core.errors import InputError, NumpruneError
from numprune_export.core.foreign import first_line
from numprune_export.core.run_folder import ARTIFACTS, MARKER, MODEL, RECIPE, REPORT, finished
from numprune_export.core.stage_record import Difference, entries, read_record
from numprune_export.export.artifact import Artifact
from numprune_export.models.checkpoint import manifest
from numprune_export.models.checkpoint.manifest import Manifest
from numprune_export.provenance import run_manifest, sbom
from numprune_export.provenance.record import Provenance, weights_of
from numprune_export.report import store
from numprune_export.report.schema import Report
from numprune_export.report.seal import Seal

_HEADS = (Artifact.INDEX, "config.json")
_SEALS: Mapping[Seal, str] = {
    "edited": "was edited: its own sha256 differs",
    "absent": "was edited: it has no sha256 of its own",
}
_NO_YAML = (yaml.YAMLError, OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
            RecursionError)  # fmt: skip
"""A value that does not fit its tag (`!!int x`) makes PyYAML raise a built-in exception."""


@dataclass(frozen=True)
class Checked:
    """The result for one folder, or one file of a run."""

    place: str
    """Path relative to the verified path."""
    files: int
    size_bytes: int
    differences: tuple[Difference, ...]
    """Named relative to the verified path."""
    opened: str
    """How it was opened, or why not."""


def verify(path: Path) -> Iterator[Checked]:
    """Verify the parts of `path` one by one; parts that differ are reported and not opened.

    For a run, all files that it wrote are hashed; the log may have grown since. Other files at the
    top level of the run folder are named but not checked.

    Raises:
        InputError: this tool did not write the folder, or a manifest is missing or invalid.
        OutputError: a run is in progress in it.
    """
    try:
        yield from _parts(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise  # `cli.app` names it, shortened
        raise InputError(
            f"`{error.filename or path}` cannot be read: {error.strerror or error}",
            hint="make it readable, or copy the folder again",
        ) from None


def _parts(path: Path) -> Iterator[Checked]:
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
    content = manifest.read(run)
    stages = run_manifest.stages(content)
    artifacts = [where for where in stages if where.startswith(f"{ARTIFACTS}/")]
    yield _model(run / MODEL, MODEL)
    for where in artifacts:
        yield _artifact(run / where, where, weights_of(run / MODEL))
    yield from _foreign_artifacts(run, artifacts)
    for where in stages:
        if where != MODEL and where not in artifacts:
            yield _stage(run, where)
    yield _report(run)
    yield _own_files(run, content)


def _foreign_artifacts(run: Path, artifacts: Collection[str]) -> Iterator[Checked]:
    """Entries under `artifacts` that do not belong to the run, each reported once, not opened."""
    if not (run / ARTIFACTS).is_dir():
        return
    extra = "is extra: no stage of the run made it"
    names = (PurePosixPath(ARTIFACTS, name) for name in entries(run / ARTIFACTS))
    for place in sorted(
        {PurePosixPath(*name.parts[:3]).as_posix() for name in names} - {*artifacts}
    ):
        yield Checked(place, 0, 0, (Difference(place, extra),), "not opened")


def _stage(run: Path, where: str) -> Checked:
    """A stage without a manifest."""
    record = read_record(run / where)
    files = {} if record is None else record.files
    differences = tuple(run_manifest.changed_in_stage(run, where))
    return Checked(
        where, len(files), sum(content.bytes for content in files.values()), differences, "hashed"
    )


def _own_files(run: Path, content: Manifest) -> Checked:
    size = sum(entry.bytes for entry in content.files.values())
    foreign = run_manifest.foreign(run, content)
    opened = f"hashed; not of the run, not looked at: {', '.join(foreign)}" if foreign else "hashed"
    differences = tuple(run_manifest.changed(run, content))
    return Checked(".", len(content.files), size, differences, opened)


def _model(folder: Path, place: str) -> Checked:
    path, problems = folder / sbom.NAME, list[Difference]()
    if path.is_file():
        text = path.read_text(encoding="utf-8", errors="replace")
        problems = list(sbom.differences(text, manifest.read(folder)))
    # Imported here: it imports PyTorch, and a wrong folder is reported without it.
    from numprune_export.provenance.reopening import reload_model

    return _checked(folder, place, reload_model, problems)


def _artifact(folder: Path, place: str, weights: Mapping[str, str] | None = None) -> Checked:
    """Verify an artifact: its manifest, its index, and the pruned model it was exported from."""
    content = manifest.read(folder)
    listed = {name: entry.sha256 for name, entry in content.files.items()}
    provenance = Provenance.of(content, folder)
    problems = list(_unlike_index(folder, listed))
    if weights is not None and provenance.variant == "pruned" and provenance.weights != weights:
        problems.append(Difference(manifest.NAME, "names another pruned model than this run's"))
    from numprune_export.provenance.reopening import reopen

    return _checked(folder, place, reopen, problems)


def _unlike_index(folder: Path, listed: Mapping[str, str]) -> Iterator[Difference]:
    """Files whose hashes differ between the artifact's index and its manifest."""
    if Artifact.INDEX not in listed:
        return
    try:
        files = Artifact.load(folder).files
    except InputError:  # missing or damaged: its hash differs too
        yield Difference(Artifact.INDEX, "is not a readable artifact index")
        return
    for name, digest in files.items():
        if listed.get(name) != digest:
            yield Difference(name, f"has another sha256 in `{Artifact.INDEX}`")


def _checked(
    folder: Path,
    place: str,
    opening: Callable[[Path], str],
    problems: list[Difference] | None = None,
) -> Checked:
    content = manifest.read(folder)
    differences = [*(problems or []), *manifest.differences(folder, content)]
    opened = "not opened"
    if not differences:
        try:
            opened = opening(folder)
        except NumpruneError as error:
            differences.append(Difference(".", f"does not open: {error}"))
    size = sum(entry.bytes for entry in content.files.values())
    named = tuple(
        Difference((Path(place) / difference.name).as_posix(), difference.how)
        for difference in differences
    )
    return Checked(place, len(content.files), size, named, opened)


def _report(run: Path) -> Checked:
    """Verify the report: its seal, and the recipe and artifacts that it lists."""
    path = run / REPORT
    report, seal = store.read_sealed(path)
    problems = list(_unlike(run, report))
    if seal != "whole":
        problems.append(Difference(REPORT, _SEALS[seal]))
    return Checked(REPORT, 1, path.stat().st_size, tuple(problems), "read")


def _unlike(run: Path, report: Report) -> Iterator[Difference]:
    if (how := _how_the_recipe_differs(run / RECIPE, report)) is not None:
        yield Difference(RECIPE, how)
    for name, artifact in report.artifacts.items():
        folder = run / artifact.folder
        if not (folder / manifest.NAME).is_file():
            yield Difference(artifact.folder, f"has no `{manifest.NAME}`, but the report lists it")
        elif _files_of(folder) != artifact.files:
            yield Difference(artifact.folder, f"is not the `{name}` of the report")


def _how_the_recipe_differs(path: Path, report: Report) -> str | None:
    if not path.is_file():
        return "is missing"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except _NO_YAML as error:
        return f"is not readable YAML: {first_line(error)}"
    return None if content == report.recipe else "is not the recipe of the report"


def _files_of(folder: Path) -> Mapping[str, str] | None:
    try:
        return Artifact.load(folder).files
    except InputError:
        return None
