"""Optional dependencies are imported where they are used, and their absence says what to install."""

import importlib
from types import ModuleType

from numprune_export.core.errors import MissingExtraError


def require(module: str, *, extra: str) -> ModuleType:
    """Import `module`, or say which extra provides it.

    Catches only "not installed": a package that is installed but broken fails with its own error.

    Raises:
        MissingExtraError: `module` is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # Also a package of a namespace that is there for others: `cuda.bindings` without `cuda-bindings`.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise MissingExtraError(
            f"this step needs `{error.name}`, which is not installed",
            hint=f"pip install 'numprune-export[{extra}]'",
        ) from None
