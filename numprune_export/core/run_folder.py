"""The run folder: every stage's output appears whole or not at all, and a killed run goes on.

A stage is made in a hidden folder beside its place and renamed when it is complete, with its key
(a hash of all it depends on) inside. The next run with the same key finds it; another key makes it
anew. One process owns a run folder at a time.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from numprune_export.core.errors import InputError, OutputError
from numprune_export.core.stage_record import (
    STAGE,
    Content,
    Record,
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
PARTIAL = ".partial"
"""How the name of what is not complete ends; it begins with a dot."""


_NO_ROOM_BYTES = 1 << 20


@dataclass(frozen=True)
class Stage:
    """A finished stage."""

    name: str
    key: str
    folder: Path
    seconds: float
    """Wall time it took when it was made, this time or an earlier one."""
    resumed: bool
    """True if it was found and not made."""
    files: Record = field(default_factory=dict)
    """What it is made of. Files that were written into it later are not among them."""


def key_of(*parts: Any) -> str:
    """Hash of everything a stage depends on; parts must be JSON-able."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class RunFolder:
    """A folder that one run owns. Use `open_folder` to get one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stages: dict[Path, Stage] = {}
        """Those that were made or found since it was opened, by their folder."""

    def stage(
        self,
        name: str,
        where: str,
        key: str,
        make: Callable[[Path], None],
        *,
        seconds: float | None = None,
        files: Record | None = None,
        editable: Collection[str] = (),
    ) -> Stage:
        """A finished stage: the one on disk if its key and its files match, else made by `make`.

        Args:
            name: What it is called.
            where: Its folder relative to the run, for example `artifacts/onnx/dense`.
            key: From `key_of`, over all inputs, earlier stages' keys included.
            make: Fills an empty folder; what it raises leaves no trace of the stage.
            seconds: What it is said to have taken; None: what `make` takes.
            files: What `make` fills the folder with; None: look.
            editable: Files that are kept where somebody changed them.
        """
        place = self.path / where
        if (found := self.find(name, where, key, editable=editable)) is not None:
            return found
        partial = place.with_name(f".{place.name}{PARTIAL}")
        shutil.rmtree(partial, ignore_errors=True)
        start = time.perf_counter()
        with full_disk_named(self.path):
            try:
                partial.mkdir(parents=True)
                make(partial)
                seconds = time.perf_counter() - start if seconds is None else seconds
                files = record_of(partial) if files is None else files
                write_record(partial, key, seconds, files)
                _sync(partial)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            shutil.rmtree(place, ignore_errors=True)
            partial.rename(place)
            _sync_one(place.parent)
        return self._remember(Stage(name, key, place, seconds, resumed=False, files=files))

    def find(
        self, name: str, where: str, key: str, *, editable: Collection[str] = ()
    ) -> Stage | None:
        """A finished stage with this key whose files are what was written; None if there is none."""
        place = self.path / where
        told = read_record(place)
        if told is None or told.key != key:
            return None
        files = {**told.files, **_edited(place, told.files, editable)}
        if (changed := next(differences(place, files), None)) is not None:
            self.log(f"{name}: made again, `{where}/{changed.name}` {changed.how}")
            return None
        if files != told.files:
            write_record(place, key, told.seconds, files)
        return self._remember(Stage(name, key, place, told.seconds, resumed=True, files=files))

    def _remember(self, stage: Stage) -> Stage:
        self.stages[stage.folder] = stage
        return stage

    def adopt(self, where: str, other: Stage) -> Stage:
        """A stage of another folder as one of this one too; its files are linked where the disk can.

        Its time stays what it took when it was made.
        """

        def link(folder: Path) -> None:
            shutil.copytree(other.folder, folder, copy_function=_link_or_copy, dirs_exist_ok=True)
            (folder / STAGE).unlink()  # linked too: written to, it would change there as well

        own = self.stage(
            other.name, where, other.key, link, seconds=other.seconds, files=other.files
        )
        return replace(own, resumed=other.resumed)

    def write(self, name: str, text: str) -> Path:
        """Write one text file, whole or not at all.

        In the folder of a stage the file is no longer one that the stage was made with: what is written
        here is not compared when the stage is found again.
        """
        place = self.path / name
        with full_disk_named(self.path):
            self._forget(place)
            write_whole(place, text)
        return place

    def _forget(self, place: Path) -> None:
        stage = self.stages.get(place.parent)
        if stage is not None and place.name in stage.files:
            files = {name: one for name, one in stage.files.items() if name != place.name}
            write_record(stage.folder, stage.key, stage.seconds, files)
            self._remember(replace(stage, files=files))

    def log(self, line: str) -> None:
        """Append one line, with the time in UTC, to the log."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with full_disk_named(self.path), (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{now} {line}\n")


def _edited(place: Path, files: Record, editable: Collection[str]) -> Record:
    """Of files that may be changed by hand: what they are now, as far as they are there."""
    now = [name for name in editable if name in files and (place / name).is_file()]
    return {name: Content.of(place / name) for name in now}


def _sync(folder: Path) -> None:
    """Wait until all of a folder is on the disk: a rename must not outrun what it names."""
    for path in (*folder.rglob("*"), folder):
        _sync_one(path)


def _sync_one(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # no descriptors of folders there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link_or_copy(source: str, destination: str) -> None:
    try:
        os.link(source, destination)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, destination)


@contextmanager
def open_folder(path: Path, marker: str = MARKER) -> Iterator[RunFolder]:
    """Own `path` for the time of a `with`: create it, or go on with an earlier run in it.

    Args:
        path: The folder.
        marker: The file in it that says what kind of folder it is; locked meanwhile.

    Raises:
        OutputError: it holds something that is not a run, another process works in it, or it
            cannot be written.
    """
    require_own(path, marker)
    created = [one for one in (path, *path.parents) if not one.exists()]
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
            if fresh and not any(one.is_dir() for one in path.iterdir()):
                _remove(path, created, marker)


def require_own(path: Path, marker: str = MARKER) -> None:
    """Refuse to write where there is something else.

    Raises:
        OutputError: it is no folder, or holds something that is not a run.
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
    """Keep a finished run as it is for the time of a `with`: no run starts in it meanwhile.

    Raises:
        InputError: it is not a run, or not a finished one.
        OutputError: a run is at work in it.
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
                hint="give the same `run` command again: it goes on where it stopped",
            )
        yield


def _clear(path: Path) -> None:
    """Remove what a killed run left unfinished."""
    for place in (path, *path.glob(f"{ARTIFACTS}/*")):
        for left in place.glob(f".*{PARTIAL}"):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _remove(path: Path, created: Sequence[Path], marker: str) -> None:
    """Leave nothing of a new run that finished no stage, nor folders that were made for it."""
    for name in (marker, RECIPE, LOG):
        (path / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        for folder in created:
            folder.rmdir()


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Turn "no space left" into an OutputError that names the disk.

    ONNX and safetensors report a full disk in words of their own, so the text is looked at too.
    """
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or "No space left on device" in str(error):
            place = _full_place(path, getattr(error, "filename", None))
            raise OutputError(
                f"no space left on the disk of `{place}`",
                hint="free some space and run the same command again: it goes on where it stopped",
            ) from None
        raise


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder below the one for temporary files, removed at the end.

    Raises:
        OutputError: that disk is full.
    """
    place = Path(tempfile.gettempdir())
    try:
        with full_disk_named(place), tempfile.TemporaryDirectory(prefix="numprune-") as name:
            yield Path(name)
    except OutputError as error:
        hint = error.hint + "; TMPDIR says where temporary files go"
        raise OutputError(str(error), hint=hint) from None


@contextmanager
def scratch_folder(beside: Path, purpose: str) -> Iterator[Path]:
    """A hidden folder beside another, removed at the end; what a kill leaves, the next run clears.

    Args:
        beside: A folder directly in the run folder.
        purpose: One word for its name.
    """
    parent = beside.absolute().parent
    with tempfile.TemporaryDirectory(prefix=f".{purpose}-", suffix=PARTIAL, dir=parent) as name:
        yield Path(name)


def _full_place(path: Path, named: object) -> Path:
    """The folder that was written to, or where that is not known, of two the one with no room."""
    if isinstance(named, str | os.PathLike):
        return Path(named).parent
    places = (path, Path(tempfile.gettempdir()))
    return next((place for place in places if _free(place) < _NO_ROOM_BYTES), path)


def _free(path: Path) -> int:
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def require_space(path: Path, needed: int) -> None:
    """Refuse a run whose files will not fit.

    Raises:
        OutputError: less than `needed` bytes are free on the disk of `path`.
    """
    free = _free(path)
    if free < needed:
        raise OutputError(
            f"`{path}` needs about {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free",
            hint="free some space, or choose another `--out`",
        )


def _lock(descriptor: int, path: Path) -> None:
    if os.name == "nt":  # no flock: Windows refuses the rename of open folders by itself
        return
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise OutputError(
            f"another run is at work in `{path}`", hint="wait for it, or choose another `--out`"
        ) from None
