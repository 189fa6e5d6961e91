"""The run folder: stage outputs are written atomically, and an interrupted run can be resumed.

A stage is computed in a hidden folder next to its final path and renamed when complete. It stores
its key, a hash of everything it depends on. A later run with the same key reuses it; a different
key recomputes it. One process owns a run folder at a time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from numprune_export.core.disk_space import full_disk_named
from numprune_export.core.errors import InputError, OutputError
from numprune_export.core.partial_files import (
    KEY,
    PARTIAL,
    PARTS,
    link_or_copy,
    remove_partial,
    sync,
    sync_entry,
)
from numprune_export.core.stage import InParts, Stage
from numprune_export.core.stage_cost import metered
from numprune_export.core.stage_record import (
    STAGE,
    Content,
    Record,
    StageRecord,
    differences,
    read_record,
    record_of,
    write_record,
    write_whole,
)

MARKER = ".numprune-run"
RECIPE = "recipe.yaml"
LOG = "log"
REPORT = "report.json"
MODEL = "model"
ARTIFACTS = "artifacts"


class RunFolder:
    """A folder that one run owns. Use `open_folder` to get one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stages: dict[Path, Stage] = {}
        """Stages computed or reused since the run folder was opened, by stage folder."""

    def stage(
        self,
        name: str,
        where: str,
        key: str,
        make: Callable[[Path], None],
        *,
        earlier: Stage | None = None,
        editable: Collection[str] = (),
    ) -> Stage:
        """Return a finished stage: reuse the stage on disk if key and files match, else compute it.

        Args:
            name: Stage name.
            where: Stage folder relative to the run, for example `artifacts/onnx/dense`.
            key: From `key_of`, over all inputs, including the keys of earlier stages.
            make: Fills an empty folder. If it raises, the partial stage is removed; of `InParts` only
                if it fails, not if it is interrupted.
            earlier: The stage that `make` copies, whose cost and files are recorded; None: measure
                `make` and hash what it writes.
            editable: Files that the user may edit; an edited file does not invalidate the stage.
        """
        place = self.path / where
        in_parts = isinstance(make, InParts)
        partial = place.with_name(f".{place.name}{PARTS if in_parts else PARTIAL}")
        attempt = partial.with_name(f"{partial.name}{KEY}")
        if (existing := self.find(name, where, key, editable=editable)) is not None:
            shutil.rmtree(partial, ignore_errors=True)  # of an attempt with another key
            attempt.unlink(missing_ok=True)
            return existing
        if in_parts and _is_attempt(attempt, key):
            remove_partial(partial)
        else:
            shutil.rmtree(partial, ignore_errors=True)
            self.abandon(where)
        with full_disk_named(self.path):
            try:
                partial.mkdir(parents=True, exist_ok=in_parts)
                if in_parts:
                    write_whole(attempt, key)
                with metered() as meter:
                    make(partial)
                record = (
                    StageRecord(key, meter.seconds, record_of(partial), meter.cost)
                    if earlier is None
                    else earlier.record
                )
                write_record(partial, record)
                sync(partial)
            except BaseException as error:
                if not in_parts or isinstance(error, Exception):
                    shutil.rmtree(partial, ignore_errors=True)
                    attempt.unlink(missing_ok=True)
                raise
            shutil.rmtree(place, ignore_errors=True)
            partial.rename(place)
            attempt.unlink(missing_ok=True)
            sync_entry(place.parent)
        return self._remember(_stage(name, place, record, resumed=False))

    def find(
        self, name: str, where: str, key: str, *, editable: Collection[str] = ()
    ) -> Stage | None:
        """The finished stage on disk if its key matches and its files are unchanged; else None."""
        place = self.path / where
        record = read_record(place)
        if record is None or record.key != key:
            return None
        files = {**record.files, **_edited(place, record.files, editable)}
        if (changed := next(differences(place, files), None)) is not None:
            self.log(f"{name}: recomputed, `{where}/{changed.name}` {changed.how}")
            return None
        if files != record.files:
            record = replace(record, files=files)
            write_record(place, record)
        return self._remember(_stage(name, place, record, resumed=True))

    def begun(self, where: str, key: str) -> bool:
        """Whether a stage with this key is on disk, or parts of it. Its files are not read."""
        place = self.path / where
        record = read_record(place)
        finished = record is not None and record.key == key
        return finished or _is_attempt(place.with_name(f".{place.name}{PARTS}{KEY}"), key)

    def abandon(self, where: str) -> None:
        """Remove the parts that an interrupted attempt at a stage has left."""
        place = self.path / where
        parts = place.with_name(f".{place.name}{PARTS}")
        shutil.rmtree(parts, ignore_errors=True)
        parts.with_name(f"{parts.name}{KEY}").unlink(missing_ok=True)

    def _remember(self, stage: Stage) -> Stage:
        self.stages[stage.folder] = stage
        return stage

    def adopt(self, where: str, other: Stage) -> Stage:
        """Copy a stage of another run folder into this one, with hard links where possible.

        Its recorded cost is kept.
        """

        def link(folder: Path) -> None:
            shutil.copytree(other.folder, folder, copy_function=link_or_copy, dirs_exist_ok=True)
            (folder / STAGE).unlink()  # a hard link: writing to it would change the original

        own = self.stage(other.name, where, other.key, link, earlier=other)
        return replace(own, resumed=other.resumed)

    def write(self, name: str, text: str) -> Path:
        """Write one text file atomically.

        If the file is part of a stage, it is removed from the stage's record: it is no longer
        compared when the stage is reused.

        Args:
            name: Path relative to the run folder.
            text: Content, written as UTF-8.
        """
        place = self.path / name
        with full_disk_named(self.path):
            self._forget(place)
            write_whole(place, text)
        return place

    def _forget(self, place: Path) -> None:
        stage = self.stages.get(place.parent)
        if stage is not None and place.name in stage.files:
            files = {name: content for name, content in stage.files.items() if name != place.name}
            stage = self._remember(replace(stage, files=files))
            write_record(stage.folder, stage.record)

    def log(self, line: str) -> None:
        """Append one line to the log, with a UTC time stamp."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with full_disk_named(self.path), (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{now} {line}\n")


class FollowedFolder(RunFolder):
    """The run folder in a process of the run that does not own it: nothing is written."""

    def write(self, name: str, text: str) -> Path:
        return self.path / name

    def log(self, line: str) -> None:
        return


def _stage(name: str, place: Path, record: StageRecord, *, resumed: bool) -> Stage:
    return Stage(name, record.key, place, record.seconds, resumed, record.files, record.cost)


def _is_attempt(attempt: Path, key: str) -> bool:
    """Whether this file says that a stage with this key was begun in parts."""
    return attempt.is_file() and attempt.read_text(encoding="utf-8") == key


def _edited(place: Path, files: Record, editable: Collection[str]) -> Record:
    """The current content of those editable files that exist."""
    now = [name for name in editable if name in files and (place / name).is_file()]
    return {name: Content.of(place / name) for name in now}


@contextmanager
def open_folder(path: Path, marker: str = MARKER) -> Iterator[RunFolder]:
    """Context manager: own a run folder; create it, or resume an earlier run in it.

    Args:
        path: The folder.
        marker: Name of the file that marks the kind of folder; locked while the folder is open.

    Raises:
        OutputError: the folder holds files but is not a run, another process owns it, or it is not
            writable.
    """
    require_own(path, marker)
    created = [parent for parent in (path, *path.parents) if not parent.exists()]
    fresh = not (path / marker).exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        opened = (path / marker).open("a")
    except OSError as error:
        raise OutputError(
            f"cannot write to `{path}`: {error.strerror}", hint="choose another `--out`"
        ) from None
    with opened:
        _lock(opened.fileno(), path)
        _clear(path)
        folder = RunFolder(path)
        try:
            yield folder
        finally:
            if fresh and not any(entry.is_dir() for entry in path.iterdir()):
                _remove(path, created, marker)


def require_own(path: Path, marker: str = MARKER) -> None:
    """Refuse to write into a folder that is neither empty nor a run.

    Raises:
        OutputError: `path` is not a folder, or is not empty and not a run.
    """
    if path.exists() and not path.is_dir():
        raise OutputError(f"`{path}` is not a folder", hint="choose another `--out`")
    if path.is_dir() and not (path / marker).exists() and any(path.iterdir()):
        raise OutputError(
            f"`{path}` is not empty and not a run of this tool",
            hint="choose another `--out`, or empty the folder yourself",
        )


@contextmanager
def finished(path: Path) -> Iterator[None]:
    """Context manager: lock a finished run so that no run starts in it.

    Raises:
        InputError: `path` is not a run, or the run is not finished.
        OutputError: a run is in progress in it.
    """
    if not (path / MARKER).is_file():
        raise InputError(
            f"`{path}` is not a run folder", hint="give a folder that `numprune-export run` wrote"
        )
    with (path / MARKER).open("rb") as marker:
        _lock(marker.fileno(), path)
        if not (path / REPORT).is_file():
            raise InputError(
                f"the run in `{path}` is not finished",
                hint="run the same command again: it resumes where it stopped",
            )
        yield


def _clear(path: Path) -> None:
    """Remove the partial files of a killed run."""
    for place in (path, *path.glob(f"{ARTIFACTS}/*")):
        remove_partial(place)


def _remove(path: Path, created: Sequence[Path], marker: str) -> None:
    """Remove a new run folder in which no stage finished, and the parent folders created for it."""
    for name in (marker, RECIPE, LOG):
        (path / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        for folder in created:
            folder.rmdir()


def _lock(descriptor: int, path: Path) -> None:
    if os.name == "nt":  # no flock: Windows itself refuses to rename open folders
        return
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise OutputError(
            f"another run is in progress in `{path}`", hint="wait for it, or choose another `--out`"
        ) from None
