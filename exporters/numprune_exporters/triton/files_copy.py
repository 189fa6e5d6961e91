"""Putting big files into the package: checked, and linked instead of copied where that works."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

from numprune_export.core.errors import InputError
from numprune_export.export.artifact import Artifact, sha256_of


def place_artifact(artifact: Artifact, folder: Path) -> None:
    """The files that run and an index of them into a new `folder`; evidence stays behind.

    Raises:
        InputError: a file is missing or is not what its hash says.
    """
    served = {name: one for name, one in artifact.files.items() if name not in artifact.evidence}
    for name, digest in served.items():
        source = artifact.folder / name
        if not source.is_file():
            raise InputError(f"`{source}` is missing", hint="run the recipe again")
        if sha256_of(source) != digest:
            raise InputError(
                f"`{source}` is not the file that was exported: its sha256 differs",
                hint="delete its folder and run the recipe again",
            )
        place_file(source, folder / name)
    dataclasses.replace(artifact, folder=folder, files=served, evidence=()).save()


def place_file(source: Path, place: Path) -> None:
    """A hard link, or a copy where the file system has none or the two are on different disks."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, place)
    except OSError:
        shutil.copyfile(source, place)
