"""What a node of a cluster is asked first; without PyTorch, so that it answers at once."""

from __future__ import annotations

from pathlib import Path


def sees(file: Path) -> bool:
    """Runs on a node: whether the node sees the file; fails if this package is missing."""
    return file.is_file()
