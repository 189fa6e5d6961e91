"""Where a path in a recipe points: beside the recipe first, then in the working directory."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from numprune_export.core.errors import InputError

LONGEST = 80
"""Characters of a name that a message shows."""


def find(name: str, search: Sequence[Path]) -> Path | None:
    """The existing file or folder that `name` means, or None.

    An absolute path is taken as it is. A relative one is looked up in each folder of `search`, in
    order, and must not climb out of it: a recipe from elsewhere cannot point at what it pleases.

    Raises:
        InputError: a relative path leaves its folder, or a folder on the way may not be read.
    """
    path = at_home(name)
    if path.is_absolute():
        return path if exists(path) else None
    places = (_inside(folder, name) for folder in search)
    return next((place for place in places if exists(place)), None)


def require(name: str, search: Sequence[Path], *, what: str) -> Path:
    """See `find`; `what` the path should be comes first in the message.

    Raises:
        InputError: as `find`, or nothing is there.
    """
    path = find(name, search)
    if path is not None:
        return path
    places = " or ".join(f"`{folder}`" for folder in search)
    raise InputError(
        f"{what} `{shortened(name)}` does not exist in {places}", hint=missing_hint(name)
    )


def missing_hint(name: str) -> str:
    """How to mend a name that is no path."""
    # No usual path holds a line break or many words.
    if "\n" in name or name.count(" ") > 8 or (len(name) > LONGEST and " " in name):
        return "give the path of a file that holds the text, not the text itself"
    return "check the path"


def shortened(name: str) -> str:
    """A name of any length, fit for one line."""
    line = " ".join(name.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def at_home(name: str) -> Path:
    """`~` and `~user` replaced; a name whose `~` stands for no user is left as it is."""
    path = Path(name)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def exists(path: Path) -> bool:
    """Whether something is there. A name that no file can have is that of nothing.

    Raises:
        InputError: a folder on the way may not be read.
    """
    try:
        path.stat()
    except ValueError:  # a NUL byte, or half of a surrogate pair
        return False
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise InputError(
                f"`{path}` cannot be looked up: {error.strerror}", hint="check its permissions"
            ) from None
        return False
    return True


def _inside(folder: Path, relative: str) -> Path:
    # Lexical on purpose: `..` is the recipe's doing and refused, a symbolic link is the user's.
    joined = Path(os.path.normpath(folder.absolute() / relative))
    if not joined.is_relative_to(os.path.normpath(folder.absolute())):
        raise InputError(
            f"`{shortened(relative)}` climbs out of the folder it is relative to",
            hint="give an absolute path",
        )
    return joined
