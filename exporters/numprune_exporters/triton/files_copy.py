"""Put artifact files into a package: hashes checked, hard links where possible, else copies."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

from numprune_export.core.errors import InputError
from numprune_export.export.artifact import Artifact, sha256_of


def place_artifact(artifact: Artifact, folder: Path) -> None:
    """Put the artifact's files, without its evidence, and their index into a new `folder`.

    Raises:
        InputError: a file is missing or differs from its hash.
    """
    served = {
        name: digest for name, digest in artifact.files.items() if name not in artifact.evidence
    }
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


def place_file(source: Path, destination: Path) -> None:
    """Hard-link `source`, or copy it where the file system cannot link."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)
