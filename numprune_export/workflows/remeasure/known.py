"""Check command-line names before PyTorch is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from numprune_export.core.errors import Mistakes
from numprune_export.core.paths import exists
from numprune_export.models.checkpoint.location import require


def require_known(names: Sequence[str]) -> None:
    """Reject names that are neither a file, a folder nor a hub id.

    Raises:
        NumpruneError: lists every rejected name.
    """
    mistakes = Mistakes()
    for name in names:
        if not exists(Path(name)):
            with mistakes.collected():
                require(name, ())
    mistakes.raise_all()
