"""stage.json: the key of a finished stage, its cost, and the sizes and hashes of its files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.core.digest import sha256_of
from numprune_export.core.json_text import loads
from numprune_export.core.stage_cost import StageCost

STAGE = "stage.json"


@dataclass(frozen=True)
class Content:
    """Size and hash of one file."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Content:
        return cls(path.stat().st_size, sha256_of(path))


Record = Mapping[str, Content]
"""File path relative to the stage folder, with `/`, to content."""


@dataclass(frozen=True)
class StageRecord:
    """The content of stage.json."""

    key: str
    seconds: float
    """Wall time."""
    files: Record
    cost: StageCost | None = None
    """None: an earlier version wrote the file."""


@dataclass(frozen=True)
class Difference:
    """A file that differs from its record."""

    name: str
    how: str
    """Predicate that follows the name in a message: `is missing`."""


def record_of(folder: Path) -> Record:
    """Hash every file below a folder, except stage.json."""
    return {name: Content.of(folder / name) for name in entries(folder) if name != STAGE}


def write_record(folder: Path, record: StageRecord) -> None:
    """Write stage.json atomically."""
    listed = {name: [entry.bytes, entry.sha256] for name, entry in record.files.items()}
    content = {"key": record.key, "seconds": record.seconds, "files": listed}
    if record.cost is not None:
        content["cost"] = record.cost.to_json()
    write_whole(folder / STAGE, json.dumps(content) + "\n")


def read_record(folder: Path) -> StageRecord | None:
    """Read stage.json; None if it is missing or not in this version's format."""
    try:
        return _parsed(loads((folder / STAGE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _parsed(content: Any) -> StageRecord:
    """Convert the JSON content.

    Raises:
        ValueError: a field is missing or invalid.
    """
    match content:
        case {"key": str(key), "seconds": int() | float() as seconds, "files": dict(files)}:
            if 0 <= seconds <= sys.float_info.max and not isinstance(seconds, bool):
                listed = {name: _content(entry) for name, entry in files.items()}
                cost = StageCost.from_json(content.get("cost"))
                return StageRecord(key, float(seconds), listed, cost)
    raise ValueError


def _content(value: Any) -> Content:
    match value:
        case [int(size), str(digest)]:
            return Content(size, digest)
    raise ValueError


def differences(folder: Path, files: Record) -> Iterator[Difference]:
    """Files that are missing or changed; hashes are compared only where sizes agree."""
    for name, content in files.items():
        how = how_it_differs(folder / name, content)
        if how is not None:
            yield Difference(name, how)


def how_it_differs(path: Path, content: Content, *, hashes: bool = True) -> str | None:
    """The predicate of `Difference.how`; None if the file matches `content`."""
    try:
        if not path.is_file():
            return "is not a file" if os.path.lexists(path) else "is missing"
        size = path.stat().st_size
        if size != content.bytes:
            return f"has {size} bytes, not the recorded {content.bytes}"
        if hashes and sha256_of(path) != content.sha256:
            return "was changed: its sha256 differs"
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    return None


def entries(folder: Path) -> Iterator[str]:
    """Relative paths of all files and empty folders below a folder, sorted; links are not followed.

    Raises:
        OSError: a folder cannot be read.
    """
    for entry in sorted(os.scandir(folder), key=lambda item: item.name):
        below = [] if not entry.is_dir(follow_symlinks=False) else list(entries(Path(entry.path)))
        if below:
            yield from (f"{entry.name}/{name}" for name in below)
        else:
            yield entry.name


def put_whole(partial: Path, place: Path) -> None:
    """Flush a file to disk, then rename it: after a loss of power it is whole or absent."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(place)


def write_whole(place: Path, text: str) -> None:
    """Write a text file atomically: write and flush a partial file, then rename it."""
    partial = place.with_name(f".{place.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)
