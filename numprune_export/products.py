"""How exactly fp32 matrix products are computed where nothing is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

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


class ExactAttention(TorchFunctionMode):
    """For the time of a `with`, attention computes its products in fp32, whatever others do.

    Where one token attends to those before it, shorter numbers cost more than they save: on CPUs
    every head's keys are repacked for a single row of queries.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        with products("highest"):
            return func(*args, **(kwargs or {}))
