"""Backward passes that leave the weights alone: no gradient of theirs is computed or kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from numprune_export.core.errors import NumericalError


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No weight asks for a gradient within; afterwards each is as it was."""
    before = [(one, one.requires_grad) for one in module.parameters()]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for one, asked in before:
            one.requires_grad_(asked)


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
