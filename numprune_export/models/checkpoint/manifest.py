"""manifest.json: the sha256 and size of every file in a folder, and how the folder was made."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, NonNegativeInt, ValidationError

from numprune_export.core.errors import InputError
from numprune_export.core.run_folder import STAGE
from numprune_export.export.artifact import sha256_of
from numprune_export.models.checkpoint.weight_files import read_json

NAME = "manifest.json"

_NOT_OURS = (".gitattributes", ".cache")
"""What the Hugging Face hub and its client put into a folder that passes through them."""


class Entry(BaseModel):
    """One file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sha256: str
    bytes: NonNegativeInt

    @classmethod
    def of(cls, path: Path, sha256: str | None = None) -> "Entry":
        """Of a file; its content is read unless its hash is known."""
        return cls(sha256=sha256 or sha256_of(path), bytes=path.stat().st_size)


class Manifest(BaseModel):
    """See the module docstring."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: Literal[1] = 1
    provenance: dict[str, JsonValue] | None = None
    """How the folder was made; None before its run has told."""
    files: dict[str, Entry]
    sha256: str | None = None
    """Of all the rest of this manifest: tells a slip of the hand, not a forger."""

    def sealed(self) -> "Manifest":
        return self.model_copy(update={"sha256": self._digest()})

    @property
    def as_written(self) -> bool:
        return self.sha256 is None or self.sha256 == self._digest()

    def text(self) -> str:
        return json.dumps(self.model_dump(exclude_none=True), indent=2, ensure_ascii=False) + "\n"

    def _digest(self) -> str:
        content = self.model_dump(exclude={"sha256"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Difference:
    """A file that is not as the manifest says."""

    name: str
    how: str
    """Words that follow the name: `is missing`."""


def describing(
    folder: Path,
    provenance: Mapping[str, Any] | None = None,
    *,
    known: Mapping[str, str] | None = None,
) -> Manifest:
    """The manifest that a folder should have now.

    Args:
        provenance: How it was made, JSON values.
        known: Name to sha256 of files that need not be read again.
    """
    known = known or {}
    files = {name: Entry.of(path, known.get(name)) for name, path in _files(folder)}
    told = None if provenance is None else dict(provenance)
    return Manifest(provenance=told, files=files).sealed()


def write(folder: Path) -> None:
    """Hash every file in the folder, the manifest itself excepted."""
    (folder / NAME).write_text(describing(folder).text(), encoding="utf-8")


def read(folder: Path) -> Manifest:
    """The manifest of a folder.

    Raises:
        InputError: there is none, it is damaged, edited or newer, or it names a file outside.
    """
    if not (folder / NAME).is_file():
        raise InputError(
            f"`{folder}` has no `{NAME}`",
            hint="copy the whole folder again, or give the same `run` command again: it writes one",
        )
    content = read_json(folder / NAME)
    version = content.get("format_version")
    if isinstance(version, int) and version != 1:
        raise InputError(
            f"`{folder / NAME}` has format version {version}, not 1",
            hint="upgrade numprune-export",
        )
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        raise InputError(
            f"`{folder / NAME}` is not a manifest: {error.errors()[0]['msg'].lower()}",
            hint="copy the whole folder again",
        ) from None
    for name in manifest.files:
        # By name only: in the hub's cache the files themselves are links to somewhere else.
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise InputError(
                f"the manifest of `{folder}` names `{name}`, which is outside the folder",
                hint="do not use this folder: prune the model again",
            )
    return manifest


def differences(folder: Path, manifest: Manifest) -> Iterator[Difference]:
    """Every file that is missing, changed, or not in the manifest."""
    if not manifest.as_written:
        yield Difference(NAME, "was edited: its own sha256 differs")
    for name, entry in manifest.files.items():
        how = _how_it_differs(folder / name, entry)
        if how is not None:
            yield Difference(name, how)
    for name, _ in _files(folder):
        if name not in manifest.files and PurePosixPath(name).parts[0] not in _NOT_OURS:
            yield Difference(name, "is extra: the manifest does not name it")


def verify(folder: Path) -> None:
    """Compare every file that the manifest of a folder names with it, by size and sha256.

    Files that the manifest does not name are let be.

    Raises:
        InputError: a file is missing or changed, or the manifest is missing, damaged or names a
            file outside the folder.
    """
    for name, entry in read(folder).files.items():
        how = _how_it_differs(folder / name, entry)
        if how is not None:
            raise InputError(f"`{folder / name}` {how}", hint="copy the whole folder again")


def _how_it_differs(path: Path, entry: Entry) -> str | None:
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != entry.bytes:
        return f"has {size} bytes, the manifest says {entry.bytes}"
    if sha256_of(path) != entry.sha256:
        return "is not the file that was written: its sha256 differs"
    return None


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and path, in order; without the manifest and the run's own note beside it."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in (NAME, STAGE):
            yield name, path
