"""manifest.json of a whole run: the hashes of its own files, and of what its stages say of theirs.

Every file of a run is so named once: by this manifest, by the manifest of a model or an artifact, or
by the stage.json of another stage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from numprune_export.core.run_folder import LOG, MARKER, RECIPE, REPORT, RunFolder
from numprune_export.core.stage_record import (
    STAGE,
    Difference,
    differences,
    entries,
    how_it_differs,
    read_record,
)
from numprune_export.models.checkpoint import manifest
from numprune_export.models.checkpoint.manifest import Entry, Manifest
from numprune_export.report import pages


def write(folder: RunFolder) -> None:
    """Of a run whose report is written and whose stages were all made or found by `folder`."""
    run = folder.path
    own = (
        RECIPE,
        LOG,
        REPORT,
        pages.markdown_of(run / REPORT).name,
        pages.html_of(run / REPORT).name,
    )
    notes = (
        (stage / name).relative_to(run).as_posix()
        for stage in folder.stages
        for name in (STAGE, manifest.NAME)
    )
    names = sorted(name for name in (*own, *notes) if (run / name).is_file())
    files = {name: Entry.of(run / name) for name in names}
    folder.write(manifest.NAME, Manifest(files=files).sealed().text())


def stages(content: Manifest) -> list[str]:
    """Folders of the stages of a run, relative to it."""
    return [name.removesuffix(f"/{STAGE}") for name in content.files if name.endswith(f"/{STAGE}")]


def changed(run: Path, content: Manifest) -> Iterator[Difference]:
    """Files that the run's manifest names and that are not what was written."""
    if not content.as_written:
        yield Difference(manifest.NAME, "was edited: its own sha256 differs")
    for name, entry in content.files.items():
        look = _how_the_log_differs if name == LOG else _how
        if (how := look(run / name, entry)) is not None:
            yield Difference(name, how)


def changed_in_stage(run: Path, where: str) -> Iterator[Difference]:
    """Files of a stage that are missing, changed, or not in its stage.json."""
    told = read_record(run / where)
    if told is None:
        yield Difference(f"{where}/{STAGE}", "does not say what the files of the stage are")
        return
    for one in differences(run / where, told.files):
        yield Difference(f"{where}/{one.name}", one.how)
    for name in entries(run / where):
        if name != STAGE and name not in told.files:
            yield Difference(f"{where}/{name}", "is extra: the run did not write it")


def foreign(run: Path, content: Manifest) -> list[str]:
    """Names at the top of the run folder that are not the run's own."""
    own = {name.partition("/")[0] for name in content.files} | {MARKER, manifest.NAME}
    return sorted(path.name for path in run.iterdir() if path.name not in own)


def _how(path: Path, entry: Entry) -> str | None:
    return how_it_differs(path, entry.content)


def _how_the_log_differs(path: Path, entry: Entry) -> str | None:
    """It grows with each run in the folder; what it said before must still stand in it."""
    if not path.is_file():
        return "is missing"
    with path.open("rb") as file:
        before = file.read(entry.bytes)
    if hashlib.sha256(before).hexdigest() != entry.sha256:
        return "no longer begins with what was written"
    return None
