"""Prune Transformers without training, shrink them, export them, prove the speed-up.

Importing this package costs no torch; `load` brings it in when it is called. It turns off the usage
reporting of the libraries underneath, see `telemetry`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from numprune_export.core.errors import NumpruneError
from numprune_export.core.telemetry import switch_off

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from numprune_export.core.version import __version__

switch_off()

__all__ = ["NumpruneError", "__version__", "load"]


def load(
    path: str | Path, *, dtype: torch.dtype | None = None, verify_hashes: bool = False
) -> PreTrainedModel:
    """Load a pruned checkpoint; see `numprune_export.models.checkpoint.load.load`."""
    from numprune_export.models.checkpoint.load import load as load_checkpoint

    return load_checkpoint(path, dtype=dtype, verify_hashes=verify_hashes)


def __getattr__(name: str) -> Any:
    """`__version__`, which reading the metadata of installed packages takes a while to find out."""
    if name != "__version__":
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")

    return __version__
