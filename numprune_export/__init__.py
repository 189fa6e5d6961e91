"""Prune Transformers without training, shrink them, export them, prove the speed-up.

The functions of `numprune_export.api` are here too, but for `export`: that name is the room of the
export contract. `errors` has the exceptions. Importing this package costs no torch. It turns off
the usage reporting of the libraries underneath, see `numprune_export.core.telemetry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numprune_export.core import errors
from numprune_export.core.errors import NumpruneError
from numprune_export.core.telemetry import switch_off

if TYPE_CHECKING:
    from numprune_export.api import (
        ModelComparison,
        PrunedModel,
        compare,
        load,
        prune,
        run,
        save,
    )
    from numprune_export.core.version import __version__

switch_off()

__all__ = [
    "ModelComparison",
    "NumpruneError",
    "PrunedModel",
    "__version__",
    "compare",
    "errors",
    "load",
    "prune",
    "run",
    "save",
]


def __getattr__(name: str) -> Any:
    """The API's names and `__version__`, looked up when they are asked for: commands start sooner so."""
    if name == "__version__":
        from numprune_export.core import version

        return version.__version__
    if name in __all__:
        from numprune_export import api

        return getattr(api, name)
    raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
