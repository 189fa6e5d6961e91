"""manifest.json of a run: hashes of the run's own files and of its stages' records.

Each file of a run is thereby listed once: in this manifest, in the manifest of a model or an
artifact, or in the stage.json of another stage.
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
    """Write the run's manifest, after the report and all stages.

    Args:
        folder: The run folder through which all stages were computed or reused.
    """
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
    """Stage folders listed in the manifest, relative to the run."""
    return [name.removesuffix(f"/{STAGE}") for name in content.files if name.endswith(f"/{STAGE}")]


def changed(run: Path, content: Manifest) -> Iterator[Difference]:
    """Files listed in the run's manifest that are missing or changed."""
    if not content.as_written:
        yield Difference(manifest.NAME, "was edited: its own sha256 differs")
    for name, entry in content.files.items():
        look = _how_the_log_differs if name == LOG else _how
        if (how := look(run / name, entry)) is not None:
            yield Difference(name, how)


def changed_in_stage(run: Path, where: str) -> Iterator[Difference]:
    """Files of a stage that are missing, changed, or not listed in its stage.json."""
    record = read_record(run / where)
    if record is None:
        yield Difference(f"{where}/{STAGE}", "does not list the files of the stage")
        return
    for difference in differences(run / where, record.files):
        yield Difference(f"{where}/{difference.name}", difference.how)
    for name in entries(run / where):
        if name != STAGE and name not in record.files:
            yield Difference(f"{where}/{name}", "is extra: the run did not write it")


def foreign(run: Path, content: Manifest) -> list[str]:
    """Top-level names in the run folder that do not belong to the run."""
    own = {name.partition("/")[0] for name in content.files} | {MARKER, manifest.NAME}
    return sorted(path.name for path in run.iterdir() if path.name not in own)


def _how(path: Path, entry: Entry) -> str | None:
    return how_it_differs(path, entry.content)


def _how_the_log_differs(path: Path, entry: Entry) -> str | None:
    """The log may grow with each run; its recorded part must be unchanged."""
    if not path.is_file():
        return "is missing"
    with path.open("rb") as file:
        before = file.read(entry.bytes)
    if hashlib.sha256(before).hexdigest() != entry.sha256:
        return "was changed: its recorded part differs"
    return None
