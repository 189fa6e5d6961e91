"""The rule of precision: the numbers in which a device multiplies, sums and solves.

| step | numbers |
|---|---|
| products of layers | `products`: of bfloat16 weights, bfloat16; of fp32 weights, as `matmul_precision` says |
| residual stream | fp32 |
| sums within a batch | fp32. On CUDA, bfloat16 rows are multiplied as they are: their products are exact in fp32 |
| sums over batches | fp32 of Gram matrices; fp64 of totals and output Fisher matrices |
| solves | `solves_of`: fp64 where it is fast, else fp32 with a refinement, or on the CPU |

A rounding of rows to ten or eight bits (TF32) does not happen in sums and residuals on a GPU:
`matmul_precision` is for layers alone there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Literal

import torch
from torch import Tensor

Solves = Literal["float64", "float32, refined", "float64 on the CPU"]
"""Of systems with a symmetric positive definite matrix."""
FAST = 1 / 8
"""Least rate of fp64 matmuls, relative to fp32, at which solves are in fp64 on the device."""
PROBED = 2048
"""Rows of the square matrices whose product is timed."""
FACTORED = 4200
"""Rows of a matrix that is factored as a check: PyTorch 2.10 with CUDA 12.8 fails above 4096."""


@dataclass(frozen=True)
class DeviceFacts:
    """What the rule depends on."""

    kind: str
    """`cpu`, `cuda`, ..."""
    fp64_rate: float = 1.0
    """Rate of fp64 matmuls relative to fp32 ones."""
    factors: bool = True
    """Whether large fp32 matrices can be factored."""


def solves_of(facts: DeviceFacts) -> Solves:
    """The numbers in which systems are solved on such a device."""
    if facts.kind != "cuda" or facts.fp64_rate >= FAST:
        return "float64"
    return "float32, refined" if facts.factors else "float64 on the CPU"


def solves_on(device: torch.device) -> Solves:
    """The numbers in which systems with a matrix on this device are solved."""
    return solves_of(facts_of(device))


@cache
def facts_of(device: torch.device) -> DeviceFacts:
    """Facts about a device; a CUDA device is timed once, in some 10 ms."""
    return probed(device, PROBED) if device.type == "cuda" else DeviceFacts(device.type)


def probed(device: torch.device, size: int) -> DeviceFacts:
    """Facts about a device from products of matrices of `size` rows, and a factor."""
    short, long = (_seconds(device, dtype, size) for dtype in (torch.float32, torch.float64))
    return DeviceFacts(device.type, short / long, _factors(device, FACTORED))


def _seconds(device: torch.device, dtype: torch.dtype, size: int) -> float:
    square, times = torch.ones(size, size, dtype=dtype, device=device), []
    for _ in range(3):  # the first one also loads the library
        start = perf_counter()
        square = (square @ square).div_(size)
        float(square[0, 0])  # waits
        times.append(perf_counter() - start)
    return min(times)


def _factors(device: torch.device, size: int) -> bool:
    try:
        _, failed = torch.linalg.cholesky_ex(torch.eye(size, device=device))
        return not bool(failed)
    except RuntimeError:
        return False


def multiplied_as_they_are(rows: Tensor) -> bool:
    """Whether products of bfloat16 rows are summed in fp32 without a copy of the rows in fp32."""
    return rows.dtype == torch.bfloat16 and rows.is_cuda


def product_sum(left: Tensor, right: Tensor) -> Tensor:
    """leftᵀ·right in fp32, of rows (tokens, n) in fp32, or in bfloat16 on CUDA."""
    if multiplied_as_they_are(left):
        exact: Tensor = torch.mm(left.T, right, out_dtype=torch.float32)
        return exact
    return left.T @ right


def stated(device: torch.device, weights: torch.dtype, multiplied: torch.dtype) -> dict[str, str]:
    """The rule for a model, for a report.

    Args:
        device: Of the pruning.
        weights: Dtype of the model.
        multiplied: Dtype in which layers multiply fp32 weights.
    """
    products = multiplied if weights == torch.float32 else weights
    return {
        "device": device.type,
        "weights": _name(weights),
        "products": _name(products),
        "residual": _name(torch.float32 if weights == torch.bfloat16 else weights),
        "sums": "float32 within a batch and of Gram matrices; float64 of totals and output Fisher",
        "solves": solves_on(device),
    }


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
