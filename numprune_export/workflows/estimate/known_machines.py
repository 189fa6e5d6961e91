"""Machines that an estimate can be asked about without having one.

Published peak rates of dense matmuls, memory and link, from the vendors' data sheets, each times a
fraction that is sustained. Nothing in this table was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from numprune_export.workflows.estimate.card_speed import CardSpeed
from numprune_export.workflows.estimate.work import Kind, Rates

MATMULS, FACTORS, MOVED = 0.5, 0.25, 0.8
"""Sustained fractions of the peaks: of matmuls, of fp64 factorisations, of memory and link."""
CALLS = 5e4
"""Operators of eager modules per second: 20 µs each."""


@dataclass(frozen=True)
class Card:
    """Published figures of a GPU: TFLOP/s of dense matmuls, GB/s, and GB."""

    memory_gb: float
    bfloat16: float
    tf32: float
    fp32: float
    fp64: float
    memory: float
    link: float

    @property
    def speed(self) -> CardSpeed:
        return CardSpeed(
            bfloat16=MATMULS * 1e12 * self.bfloat16,
            tf32=MATMULS * 1e12 * self.tf32,
            fp32=MATMULS * 1e12 * self.fp32,
            fp64=MATMULS * 1e12 * self.fp64,
            factor64=FACTORS * 1e12 * self.fp64,
            memory=MOVED * 1e9 * self.memory,
            link=MOVED * 1e9 * self.link,
            calls=CALLS,
        )


CARDS = {
    "a100-40gb": Card(40, 312, 156, 19.5, 19.5, 1555, 32),
    "a100-80gb": Card(80, 312, 156, 19.5, 19.5, 2039, 32),
    "h100-80gb": Card(80, 989, 495, 67, 67, 3350, 64),
    "h200": Card(141, 989, 495, 67, 67, 4800, 64),
    "l40s-48gb": Card(48, 362, 183, 91.6, 1.43, 864, 32),
    "rtx3090-24gb": Card(24, 71, 35.6, 35.6, 0.56, 936, 32),
    "rtx4090-24gb": Card(24, 165, 82.6, 82.6, 1.29, 1008, 32),
}
"""fp64 of matmuls, on tensor cores where the card has them."""

HOST: Rates = {
    "files": 1 / 2e9,
    "hashes": 1 / 1.5e9,
    "dequantise": 1 / 2e8,
    "processes": 10.0,
    "headers": 0.5,
    "stages": 0.2,
}
"""Of the host beside a card."""

SERVER_CPU = "cpu-16-cores"
"""A server without a GPU: 16 cores with AVX-512 at 2.5 GHz, and bfloat16 no slower than fp32."""


def server_rates(itemsize: int) -> Rates:
    """Seconds per unit of work on SERVER_CPU."""
    fp32 = MATMULS * 16 * 2.5e9 * 64  # 32 multiply-adds of fp32 a cycle
    moved = MOVED * 150e9
    own: dict[Kind, float] = {
        "layers": 1 / fp32,
        "layers_back": 1 / fp32,
        "products": 1 / fp32,
        "grams": 1 / fp32,
        "attention": 2 / fp32,
        "attention_back": 5 / fp32,
        "weights": itemsize / moved,
        "activation": 1 / 4e9,
        "elementwise": 1 / moved,
        "calls": 1e-5,
        "products64": 2 / fp32,
        "cholesky": 4 / fp32,
        "eigen": 40 / fp32,
        "memory64": 4 / moved,
        "transfers": 1 / 2e9,
    }
    return {**HOST, **own}


NAMES = (*CARDS, SERVER_CPU)
