"""Backward passes that compute no gradients of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from numprune_export.core.errors import NumericalError


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Disable gradients of all parameters inside the `with`; each is restored afterwards."""
    before = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)


def require_finite(values: Tensor, what: str) -> None:
    """Check that all values are finite; `what` names them with a verb, for the message.

    Raises:
        NumericalError: a value is NaN or infinite.
    """
    if not bool(torch.isfinite(values).all()):
        raise NumericalError(
            f"{what} not finite",
            hint="check the checkpoint and its labels, or calibrate in `dtype: float32`",
        )
