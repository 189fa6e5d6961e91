"""Where a path in a recipe points: beside the recipe first, then in the working directory."""

import os
from collections.abc import Sequence
from pathlib import Path

from numprune_export.core.errors import InputError


def find(name: str, search: Sequence[Path]) -> Path | None:
    """The existing file or folder that `name` means, or None.

    An absolute path is taken as it is. A relative one is looked up in each folder of `search`, in
    order, and must not climb out of it: a recipe from elsewhere cannot point at what it pleases.

    Raises:
        InputError: a relative path leaves its folder.
    """
    path = Path(name).expanduser()
    if path.is_absolute():
        return path if path.exists() else None
    places = (_inside(folder, name) for folder in search)
    return next((place for place in places if place.exists()), None)


def existing(name: str, search: Sequence[Path], *, kind: str) -> Path:
    """As `find`, of something that must be there; `kind` names it in messages: `text file`.

    Raises:
        InputError: it does not exist, or a relative path leaves its folder.
    """
    path = find(name, search)
    if path is None:
        places = " or ".join(f"`{folder}`" for folder in search)
        raise InputError(f"{kind} `{name}` does not exist in {places}", hint="check the path")
    return path


def _inside(folder: Path, relative: str) -> Path:
    # Lexical on purpose: `..` is the recipe's doing and refused, a symbolic link is the user's.
    joined = Path(os.path.normpath(folder.absolute() / relative))
    if not joined.is_relative_to(os.path.normpath(folder.absolute())):
        raise InputError(
            f"`{relative}` climbs out of the folder it is relative to",
            hint="give an absolute path",
        )
    return joined
