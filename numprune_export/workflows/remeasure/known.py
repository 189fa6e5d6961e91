"""Whether names on a command line can be something to measure: known before anything is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from numprune_export.core.errors import Mistakes
from numprune_export.models.checkpoint.location import require


def require_known(names: Sequence[str]) -> None:
    """Refuse names of no file or folder that are no hub ids either.

    Raises:
        NumpruneError: all of them.
    """
    mistakes = Mistakes()
    for name in names:
        if not Path(name).exists():
            with mistakes.collected():
                require(name, ())
    mistakes.raise_all()
