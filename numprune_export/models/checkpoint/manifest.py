"""manifest.json: the sha256 and size of every file in a folder, and the folder's provenance."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, NonNegativeInt, ValidationError

from numprune_export.core.digest import sha256_of
from numprune_export.core.errors import InputError
from numprune_export.core.stage_record import STAGE, Content, Difference, entries, how_it_differs
from numprune_export.models.checkpoint.weight_files import read_json

NAME = "manifest.json"


class Entry(BaseModel):
    """One file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sha256: str
    bytes: NonNegativeInt

    @property
    def content(self) -> Content:
        return Content(self.bytes, self.sha256)

    @classmethod
    def of(cls, path: Path, sha256: str | None = None) -> "Entry":
        """The entry of a file, which is read unless its hash is known."""
        return cls(sha256=sha256 or sha256_of(path), bytes=path.stat().st_size)


class Manifest(BaseModel):
    """See the module docstring."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: Literal[1] = 1
    provenance: dict[str, JsonValue] | None = None
    """How the folder was made; None until its run has added it."""
    files: dict[str, Entry]
    sha256: str | None = None
    """Of the rest of this manifest: detects accidental edits, not forgery."""

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


def describing(
    folder: Path,
    provenance: Mapping[str, Any] | None = None,
    *,
    known: Mapping[str, str] | None = None,
) -> Manifest:
    """Compute the manifest of a folder.

    Args:
        provenance: How the folder was made, JSON values.
        known: sha256 by name of files that need not be read again.
    """
    known = known or {}
    files = {
        name: Entry.of(folder / name, known.get(name))
        for name in _names(folder)
        if (folder / name).is_file()
    }
    values = None if provenance is None else dict(provenance)
    return Manifest(provenance=values, files=files).sealed()


def write(folder: Path, known: Mapping[str, str] | None = None) -> None:
    """Write the manifest of a folder: the hash of every file except the manifest itself.

    Args:
        known: As in `describing`.
    """
    (folder / NAME).write_text(describing(folder, known=known).text(), encoding="utf-8")


def read(folder: Path) -> Manifest:
    """Read the manifest of a folder.

    Raises:
        InputError: it is missing, damaged, of another format version, or names a file outside the
            folder.
    """
    if not (folder / NAME).is_file():
        raise InputError(
            f"`{folder}` has no `{NAME}`",
            hint="copy the whole folder again, or repeat the `run` command, which writes it",
        )
    content = read_json(folder / NAME, unique=True)
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
        # Only the name is checked: files in the hub's cache are links to another folder.
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise InputError(
                f"the manifest of `{folder}` names `{name}`, which is outside the folder",
                hint="do not use this folder: prune the model again",
            )
    return manifest


def differences(folder: Path, manifest: Manifest) -> Iterator[Difference]:
    """Files that are missing, changed, or not in the manifest.

    Links to folders, broken links, pipes and empty folders count as extra files. Links to files are
    followed: the hub's cache consists of them.
    """
    if not manifest.as_written:
        yield Difference(NAME, "was edited: its own sha256 differs")
    for name, entry in manifest.files.items():
        how = how_it_differs(folder / name, entry.content)
        if how is not None:
            yield Difference(name, how)
    for name in _names(folder):
        if name not in manifest.files and not _of_the_hub(name):
            yield Difference(name, "is extra: it is not in the manifest")


def verify(folder: Path) -> None:
    """Check size and sha256 of every file in the folder's manifest; extra files are ignored.

    Raises:
        InputError: a file is missing or changed, or the manifest is missing, damaged or names a
            file outside the folder.
    """
    for name, entry in read(folder).files.items():
        how = how_it_differs(folder / name, entry.content)
        if how is not None:
            raise InputError(f"`{folder / name}` {how}", hint="copy the whole folder again")


def _names(folder: Path) -> Iterator[str]:
    """Names of the files in order, without the manifest and the run's stage record."""
    return (name for name in entries(folder) if name not in (NAME, STAGE))


def _of_the_hub(name: str) -> bool:
    """Whether the Hugging Face hub or its client adds this file to a folder."""
    return name == ".gitattributes" or f"{name}/".startswith(".cache/huggingface/")
