"""Speed of a GPU: eight rates, sampled on it or from published figures, and what they make of work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from numprune_export.numerics.arithmetic import FAST
from numprune_export.numerics.precision import Precision
from numprune_export.workflows.estimate.work import Kind, Rates

EIGEN = 10.0
"""Operations per n³ of a symmetric matrix's eigenvectors, at the speed of factorisations."""
ATTENTION = 0.5
"""Speed of attention, relative to a matmul of the same dtype."""
BACK = 2.5
"""Time of attention's backward pass, relative to its forward pass."""


@dataclass(frozen=True)
class CardSpeed:
    """Sustained rates of a GPU: operations, bytes or calls per second."""

    bfloat16: float
    """Matmuls of bfloat16."""
    tf32: float
    """Matmuls of fp32 rounded to ten bits."""
    fp32: float
    fp64: float
    factor64: float
    """Cholesky factors and their solves in fp64."""
    memory: float
    """Bytes read or written in its memory."""
    link: float
    """Bytes from host memory."""
    calls: float
    """Operators of modules that Python starts one by one."""

    def rates(self, host: Rates, precision: Precision, itemsize: int) -> Rates:
        """Seconds per unit of work of a model on this GPU.

        Args:
            host: Those of work that stays on the host.
            precision: `matmul_precision` of the recipe.
            itemsize: Bytes per weight of the model.
        """
        short = itemsize == 2 or precision in ("auto", "bfloat16")
        grams = self.bfloat16 if itemsize == 2 else self.fp32
        layers = self.fp32 if precision == "highest" else self.tf32
        products = self.bfloat16 if short else layers
        # Where fp64 is slow, systems are solved in fp32, as `numerics.arithmetic` says.
        slow = self.fp64 < FAST * self.fp32
        wide = self.fp32 if slow else self.fp64
        factors = self.factor64 / self.fp64 * wide
        attention = 1 / (ATTENTION * products)
        own: dict[Kind, float] = {
            "layers": 1 / products,
            "layers_back": 1 / products,
            "products": 1 / products,
            "grams": 1 / grams,
            "attention": attention,
            "attention_back": BACK * attention,
            "weights": itemsize / self.memory,
            "activation": 2 * itemsize / self.memory,
            "elementwise": 1 / self.memory,
            "calls": 1 / self.calls,
            "products64": 1 / wide,
            "cholesky": 1 / factors,
            "eigen": EIGEN / factors,
            "memory64": 1 / self.memory,
            "transfers": 1 / self.link,
        }
        return {**host, **own}


def probe(device: torch.device, side: int = 4096, side64: int = 2048) -> CardSpeed:
    """Rates of a device, sampled in at most two seconds.

    Args:
        device: A CUDA device; the CPU is accepted for tests.
        side: Side of the matrices of 2 and 4 bytes.
        side64: Side of those in fp64.
    """
    single = torch.randn(side, side, device=device)
    half, double = single.bfloat16(), torch.randn(side64, side64, device=device).double()
    definite = double @ double.T + side64 * torch.eye(side64, device=device).double()
    held, little = torch.empty(side * side), torch.ones(8, device=device)
    held = held.pin_memory() if device.type == "cuda" else held

    def rate(work: Callable[[], object], amount: float) -> float:
        return amount / _fastest(work, device)

    def calls() -> None:
        for _ in range(200):
            little.add(1)

    def matmul() -> Tensor:
        return single @ single

    products = 2.0 * side**3
    with _precision("highest"):
        exact = rate(matmul, products)
    with _precision("high"):
        rounded = rate(matmul, products)
    return CardSpeed(
        bfloat16=rate(lambda: half @ half, products),
        tf32=rounded,
        fp32=exact,
        fp64=rate(lambda: double @ double, 2.0 * side64**3),
        factor64=rate(lambda: torch.linalg.cholesky_ex(definite), side64**3 / 3),
        memory=rate(lambda: single * 1.5, 8.0 * side**2),
        link=rate(lambda: held.to(device, copy=True), 4.0 * side**2),
        calls=rate(calls, 200) / CALL_FACTOR,
    )


CALL_FACTOR = 4.0
"""Cost of an operator in a module of transformers, relative to a bare operator."""


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of three calls after a first one, by the device's own clock."""
    work()
    return min(_seconds(work, device) for _ in range(3))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
    event: Any = torch.cuda.Event
    begin, end = event(enable_timing=True), event(enable_timing=True)
    begin.record(torch.cuda.current_stream(device))
    work()
    end.record(torch.cuda.current_stream(device))
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


@contextmanager
def _precision(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
