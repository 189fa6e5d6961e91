"""Where a relative path in a recipe points: beside the recipe first, then the working directory."""

from collections.abc import Sequence
from pathlib import Path

from numprune_export.errors import InputError


def find(name: str, search: Sequence[Path], *, what: str) -> Path:
    """The existing file or folder that `name` means.

    An absolute path is taken as it is. A relative one is looked up in each folder of `search`, in
    order, and must not climb out of it: a recipe from elsewhere cannot point at what it pleases.

    Raises:
        InputError: nothing is there, or the path leaves its folder.
    """
    path = Path(name).expanduser()
    if path.is_absolute():
        if path.exists():
            return path
        raise InputError(f"{what} `{name}` does not exist", hint="check the path")
    if ".." in path.parts:
        raise InputError(
            f"{what} `{name}` climbs out of its folder", hint="give an absolute path instead"
        )
    for folder in search:
        if (folder / path).exists():
            return folder / path
    places = " or ".join(f"`{folder}`" for folder in search)
    raise InputError(f"{what} `{name}` does not exist in {places}", hint="check the path")
