"""Backward passes that leave the weights alone: no gradient of theirs is computed or kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


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
