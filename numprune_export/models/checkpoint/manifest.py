"""manifest.json: the sha256 and size of every file in a folder, and how the folder was made."""

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
    files = {
        name: Entry.of(folder / name, known.get(name))
        for name in _names(folder)
        if (folder / name).is_file()
    }
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
        # By name only: in the hub's cache the files themselves are links to somewhere else.
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise InputError(
                f"the manifest of `{folder}` names `{name}`, which is outside the folder",
                hint="do not use this folder: prune the model again",
            )
    return manifest


def differences(folder: Path, manifest: Manifest) -> Iterator[Difference]:
    """Every file that is missing, changed, or not in the manifest.

    Links to folders, links to nothing, pipes and empty folders are not in it either. Links to files are
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
            yield Difference(name, "is extra: the manifest does not name it")


def verify(folder: Path) -> None:
    """Compare every file that the manifest of a folder names with it, by size and sha256.

    Files that the manifest does not name are let be.

    Raises:
        InputError: a file is missing or changed, or the manifest is missing, damaged or names a
            file outside the folder.
    """
    for name, entry in read(folder).files.items():
        how = how_it_differs(folder / name, entry.content)
        if how is not None:
            raise InputError(f"`{folder / name}` {how}", hint="copy the whole folder again")


def _names(folder: Path) -> Iterator[str]:
    """In order; without the manifest and the run's own note beside it."""
    return (name for name in entries(folder) if name not in (NAME, STAGE))


def _of_the_hub(name: str) -> bool:
    """What the Hugging Face hub and its client put into a folder that passes through them."""
    return name == ".gitattributes" or f"{name}/".startswith(".cache/huggingface/")
