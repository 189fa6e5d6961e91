"""One message for losses and gradients that came out as NaN or infinite."""

from __future__ import annotations

import torch
from torch import Tensor

from numprune_export.core.errors import NumericalError


def require_finite(values: Tensor, what: str) -> None:
    """Check `values`, which `what` names with its verb.

    Raises:
        NumericalError: one is NaN or infinite.
    """
    if not bool(torch.isfinite(values).all()):
        raise NumericalError(
            f"{what} not finite",
            hint="check the checkpoint and its labels, or calibrate in `dtype: float32`",
        )
