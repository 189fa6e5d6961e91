"""How exactly fp32 matrix products are computed where nothing is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["highest", "high", "medium"]
"""As `torch.set_float32_matmul_precision`: fp32, or sums of products of shorter numbers."""


@contextmanager
def products(precision: Precision) -> Iterator[None]:
    """For the time of a `with`; results that are compared bit for bit belong outside."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
