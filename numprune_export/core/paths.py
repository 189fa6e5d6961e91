"""Resolve the paths of a recipe: relative to the recipe first, then to the working directory."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from numprune_export.core.errors import InputError

LONGEST = 80
"""Maximum number of characters of a name in a message."""


def find(name: str, search: Sequence[Path]) -> Path | None:
    """The existing file or folder that `name` refers to, or None.

    An absolute path is used as it is. A relative path is looked up in each folder of `search`, in
    order, and must stay inside it, so that an untrusted recipe cannot reach other files.

    Raises:
        InputError: a relative path leaves its folder, or a parent folder is not readable.
    """
    path = at_home(name)
    if path.is_absolute():
        return path if exists(path) else None
    places = (_inside(folder, name) for folder in search)
    return next((place for place in places if exists(place)), None)


def require(name: str, search: Sequence[Path], *, what: str) -> Path:
    """Like `find`, but a missing path is an error; its message starts with `what`.

    Raises:
        InputError: as in `find`, or the path does not exist.
    """
    path = find(name, search)
    if path is not None:
        return path
    places = " or ".join(f"`{folder}`" for folder in search)
    raise InputError(
        f"{what} `{shortened(name)}` does not exist in {places}", hint=missing_hint(name)
    )


def missing_hint(name: str) -> str:
    """The hint for a path that does not exist."""
    # Paths rarely hold line breaks or many spaces: the user gave the text instead of its path.
    if "\n" in name or name.count(" ") > 8 or (len(name) > LONGEST and " " in name):
        return "give the path of a file that holds the text, not the text itself"
    return "check the path"


def shortened(name: str) -> str:
    """`name` on one line, cut to `LONGEST` characters."""
    line = " ".join(name.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def at_home(name: str) -> Path:
    """`name` with `~` and `~user` expanded; unchanged if there is no such user."""
    path = Path(name)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def exists(path: Path) -> bool:
    """Whether the path exists; False for names that no file can have.

    Raises:
        InputError: a parent folder is not readable.
    """
    try:
        path.stat()
    except ValueError:  # a NUL byte, or an unpaired surrogate
        return False
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise InputError(
                f"`{path}` cannot be looked up: {error.strerror}", hint="check its permissions"
            ) from None
        return False
    return True


def _inside(folder: Path, relative: str) -> Path:
    # Lexical on purpose: `..` in a recipe is refused; symbolic links are the user's choice.
    joined = Path(os.path.normpath(folder.absolute() / relative))
    if not joined.is_relative_to(os.path.normpath(folder.absolute())):
        raise InputError(
            f"`{shortened(relative)}` climbs out of the folder it is relative to",
            hint="give an absolute path",
        )
    return joined
