"""manifest.json: the sha256 and size of every file in a pruned folder."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from numprune_export.artifact import sha256_of
from numprune_export.checkpoint.weights import read_json
from numprune_export.errors import InputError

NAME = "manifest.json"


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sha256: str
    bytes: NonNegativeInt


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: int
    files: dict[str, _Entry]


def write(folder: Path) -> None:
    """Hash every file in the folder, the manifest itself excepted."""
    files = {
        path.relative_to(folder).as_posix(): {
            "sha256": sha256_of(path),
            "bytes": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != NAME
    }
    content: dict[str, Any] = {"format_version": 1, "files": files}
    (folder / NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def verify(folder: Path, *, hashes: bool = True) -> None:
    """Compare a folder with its manifest: every size, and every sha256 unless `hashes` is off.

    Raises:
        InputError: a file is missing or changed, or the manifest is missing, damaged or names a
            file outside the folder.
    """
    for name, entry in _read(folder).files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"the manifest of `{folder}` names `{name}`, which is outside the folder",
                hint="do not use this folder: prune the model again",
            )
        if not path.is_file():
            raise InputError(f"`{path}` is missing", hint="copy the whole folder again")
        if path.stat().st_size != entry.bytes:
            raise InputError(
                f"`{path}` has {path.stat().st_size} bytes, the manifest says {entry.bytes}",
                hint="copy the whole folder again",
            )
        if hashes and sha256_of(path) != entry.sha256:
            raise InputError(
                f"`{path}` is not the file that was written: its sha256 differs",
                hint="copy the whole folder again",
            )


def _read(folder: Path) -> _Manifest:
    try:
        manifest = _Manifest.model_validate(read_json(folder / NAME))
    except ValidationError as error:
        raise InputError(
            f"`{folder / NAME}` is not a manifest: {error.errors()[0]['msg'].lower()}",
            hint="copy the whole folder again",
        ) from None
    if manifest.format_version != 1:
        raise InputError(
            f"`{folder / NAME}` has format version {manifest.format_version}, not 1",
            hint="upgrade numprune-export",
        )
    return manifest
