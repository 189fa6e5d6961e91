"""stage.json: the key of a finished stage, the time it took, and the files it is made of."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.core.digest import sha256_of

STAGE = "stage.json"


@dataclass(frozen=True)
class Content:
    """Of one file."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Content:
        return cls(path.stat().st_size, sha256_of(path))


Record = Mapping[str, Content]
"""Name of a file relative to the stage, with `/`, to its content."""


@dataclass(frozen=True)
class Told:
    """What stage.json says."""

    key: str
    seconds: float
    files: Record


@dataclass(frozen=True)
class Difference:
    """A file that is not as it was written."""

    name: str
    how: str
    """Words that follow the name: `is missing`."""


def record_of(folder: Path) -> Record:
    """Every file below a folder but its stage.json; each is read once."""
    return {name: Content.of(folder / name) for name in entries(folder) if name != STAGE}


def write_record(folder: Path, key: str, seconds: float, files: Record) -> None:
    """Write stage.json, whole or not at all."""
    listed = {name: [one.bytes, one.sha256] for name, one in files.items()}
    content = {"key": key, "seconds": seconds, "files": listed}
    write_whole(folder / STAGE, json.dumps(content) + "\n")


def read_record(folder: Path) -> Told | None:
    """What stage.json says; None where there is none, or one that this version did not write."""
    try:
        return _told(json.loads((folder / STAGE).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None


def _told(content: Any) -> Told:
    """
    Raises:
        ValueError: a field is missing, or has no such value.
    """
    match content:
        case {"key": str(key), "seconds": int() | float() as seconds, "files": dict(files)}:
            if 0 <= seconds <= sys.float_info.max and not isinstance(seconds, bool):
                listed = {name: _content(one) for name, one in files.items()}
                return Told(key, float(seconds), listed)
    raise ValueError


def _content(value: Any) -> Content:
    match value:
        case [int(size), str(digest)]:
            return Content(size, digest)
    raise ValueError


def differences(folder: Path, files: Record) -> Iterator[Difference]:
    """Files that are missing or changed; sizes are compared first, hashes where those agree."""
    for name, content in files.items():
        how = how_it_differs(folder / name, content)
        if how is not None:
            yield Difference(name, how)


def how_it_differs(path: Path, content: Content, *, hashes: bool = True) -> str | None:
    """Words that follow the file's name; None: it is what was written."""
    try:
        if not path.is_file():
            return "is not a file" if os.path.lexists(path) else "is missing"
        size = path.stat().st_size
        if size != content.bytes:
            return f"has {size} bytes, not the {content.bytes} that were written"
        if hashes and sha256_of(path) != content.sha256:
            return "is not the file that was written: its sha256 differs"
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    return None


def entries(folder: Path) -> Iterator[str]:
    """Everything below a folder that is no folder, and empty folders; sorted, links not followed.

    Raises:
        OSError: a folder cannot be read.
    """
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        below = [] if not entry.is_dir(follow_symlinks=False) else list(entries(Path(entry.path)))
        if below:
            yield from (f"{entry.name}/{name}" for name in below)
        else:
            yield entry.name


def write_whole(place: Path, text: str) -> None:
    """Write a text file beside its place, and rename it when it is on the disk."""
    partial = place.with_name(f".{place.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)
