"""Files and folders that are not whole yet: hidden beside their final place, removed by the next run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"
"""Suffix of incomplete files and folders; their names start with a dot."""
PARTS = ".parts"
"""Suffix of stages made in parts; they stay when a run is interrupted."""
KEY = "-key"
"""Suffix of the file beside such a folder that holds the stage's key."""


def remove_partial(place: Path) -> None:
    """Remove the partial files and folders directly in a folder."""
    for left in place.glob(f".*{PARTIAL}"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


@contextmanager
def scratch_folder(beside: Path, purpose: str) -> Iterator[Path]:
    """Context manager: a hidden folder next to `beside`, removed on exit or by the next run.

    Args:
        beside: A folder directly in the run folder.
        purpose: One word, part of the folder's name.
    """
    parent = beside.absolute().parent
    with tempfile.TemporaryDirectory(prefix=f".{purpose}-", suffix=PARTIAL, dir=parent) as name:
        yield Path(name)


def sync(folder: Path) -> None:
    """Flush a folder and its files to disk, so that the rename cannot precede the data."""
    for path in (*folder.rglob("*"), folder):
        sync_entry(path)


def sync_entry(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link_or_copy(source: str, destination: str) -> None:
    try:
        os.link(source, destination)
    except OSError:  # a different disk, or a file system without hard links
        shutil.copy2(source, destination)
