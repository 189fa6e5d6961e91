"""Machine-independent work of a stage, by kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "layers",
    "layers_back",
    "products",
    "weights",
    "grams",
    "attention",
    "attention_back",
    "activation",
    "elementwise",
    "calls",
    "products64",
    "cholesky",
    "eigen",
    "memory64",
    "files",
    "hashes",
    "transfers",
    "dequantise",
    "processes",
    "headers",
    "stages",
]
"""Units:

- floating-point operations: `layers` (the model's own, in its dtype), `layers_back` (gradients of
  their inputs), `products` (fp32, rounded as the precision says), `grams` (sums of x·xᵀ), `attention`,
  `attention_back` (counted as forward operations), `products64`, `cholesky` (with its solves),
  `eigen` (n³ each)
- elements: `weights` (read by products of few rows), `activation`, `dequantise`
- bytes: `elementwise` (fp32), `memory64` (fp64), `files`, `hashes`, `transfers` (of weights to the
  device; on the CPU, of a block from disk)
- events: `calls` (operators), `processes` (started), `headers` (models built from a config or a
  file header), `stages` (ended: freed memory is returned)"""

Rates = Mapping[Kind, float]
"""Seconds per unit of each kind."""


@dataclass(frozen=True)
class Work:
    """Amount of work of each kind."""

    amounts: Mapping[Kind, float]

    def __add__(self, other: Work) -> Work:
        amounts = dict(self.amounts)
        for kind, amount in other.amounts.items():
            amounts[kind] = amounts.get(kind, 0.0) + amount
        return Work(amounts)

    def times(self, factor: float) -> Work:
        return Work({kind: factor * amount for kind, amount in self.amounts.items()})

    def seconds(self, rates: Rates) -> float:
        return sum(amount * rates[kind] for kind, amount in self.amounts.items())


def total(parts: Iterable[Work]) -> Work:
    """Sum of all parts; no work if there are none."""
    return sum(parts, Work({}))
