"""The general text that comes with the package: its kinds and their files.

Licences and origins: `general/LICENCES.md`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

Builtin = Literal[
    "general",
    "general/literature",
    "general/news",
    "general/code",
    "general/encyclopaedia",
    "general/dialogue",
    "general/technical",
    "general/languages",
    "general/speeches",
]
"""All kinds, or one of them."""
GENERAL: Literal["general"] = "general"
KINDS = tuple(name.partition("/")[2] for name in get_args(Builtin)[1:])
"""The first ones get the windows that do not divide evenly."""
FOLDER = Path(__file__).parent / GENERAL
"""One file per kind, one document per line."""


def files(builtin: Builtin) -> tuple[Path, ...]:
    """Files of all kinds, or of one.

    >>> [path.name for path in files("general/code")]
    ['code.jsonl']
    """
    kind = builtin.partition("/")[2]
    return tuple(FOLDER / f"{name}.jsonl" for name in ([kind] if kind else KINDS))
