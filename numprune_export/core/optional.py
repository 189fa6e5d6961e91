"""Import an optional dependency; if it is missing, name the extra to install."""

import importlib
from types import ModuleType

from numprune_export.core.errors import MissingExtraError


def require(module: str, *, extra: str) -> ModuleType:
    """Import `module`; if it is not installed, name the extra that provides it.

    A package that is installed but broken raises its own error.

    Raises:
        MissingExtraError: `module` is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A namespace package can exist without this part: `cuda` without `cuda.bindings`.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise MissingExtraError(
            f"this step needs `{error.name}`, which is not installed",
            hint=f"pip install 'numprune-export[{extra}]'",
        ) from None
