"""Room on the disk: checked before the work, and named when it runs out."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from numprune_export.core.errors import OutputError

_NO_ROOM_BYTES = 1 << 20


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Context manager: turn an error of a full disk, or of a file size limit, into an OutputError.

    ONNX and safetensors raise their own exceptions, so the message is checked too.

    Raises:
        OutputError: names the disk, or the folder of the file that is too large.
    """
    try:
        yield
    except Exception as error:
        place = getattr(error, "filename", None)
        if _is(error, errno.ENOSPC, errno.EDQUOT):
            raise OutputError(
                f"no space left on the disk of `{_full_place(path, place)}`",
                hint="free some space and run the same command again: it resumes where it stopped",
            ) from None
        if _is(error, errno.EFBIG):
            raise OutputError(
                f"a file in `{_folder_of(place) or path}` is larger than a file may be here",
                hint="raise the limit (`ulimit -f`), or use another file system, and run the same"
                " command again: it resumes where it stopped",
            ) from None
        raise


def _is(error: Exception, *codes: int) -> bool:
    """Whether an error has one of these `errno` codes, or the message of one."""
    if isinstance(error, OSError) and error.errno in codes:
        return True
    return any(os.strerror(code) in str(error) for code in codes)


def _folder_of(name: object) -> Path | None:
    return Path(name).parent if isinstance(name, str | os.PathLike) else None


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Context manager: a temporary folder, removed on exit.

    Raises:
        OutputError: the disk is full.
    """
    place = Path(tempfile.gettempdir())
    try:
        with full_disk_named(place), tempfile.TemporaryDirectory(prefix="numprune-") as name:
            yield Path(name)
    except OutputError as error:
        hint = error.hint + "; set TMPDIR to use another disk for temporary files"
        raise OutputError(str(error), hint=hint) from None


def _full_place(path: Path, named: object) -> Path:
    """The folder of the failed write; if unknown, the first full one of `path` and TMPDIR."""
    if (folder := _folder_of(named)) is not None:
        return folder
    places = (path, Path(tempfile.gettempdir()))
    return next((place for place in places if _free(place) < _NO_ROOM_BYTES), path)


def _free(path: Path) -> int:
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def require_space(path: Path, needed: int) -> None:
    """Check that the files of a run fit on the disk.

    Args:
        path: A folder on the disk; it need not exist.
        needed: Bytes.

    Raises:
        OutputError: fewer than `needed` bytes are free.
    """
    free = _free(path)
    if free < needed:
        raise OutputError(
            f"`{path}` needs about {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free",
            hint="free some space, or choose another `--out`",
        )
