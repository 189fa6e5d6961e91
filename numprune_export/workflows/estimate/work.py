"""Work by kind: what a stage adds up to before anything of the machine is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
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
    "elimination",
    "memory64",
    "files",
    "hashes",
    "dequantise",
    "processes",
    "headers",
    "stages",
]
"""Floating-point operations of fp32 products; weights that products of few rows read, beside their operations;
floating-point operations of sums of x·xᵀ, of attention forward and backward
(counted as those forward), of fp64 products, Cholesky factors with their solves, eigenvectors (n³ each)
and the elimination of inputs; elements of an activation function; bytes that elementwise work in fp32
and in fp64 moves, of files, of hashes; weights de-quantised; calls of an operator; processes started; models built from what a configuration
or a file's header says; stages ended."""

Rates = Mapping[Kind, float]
"""Seconds per unit of each kind."""


@dataclass(frozen=True)
class Work:
    """How much of each kind."""

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
    """The sum of all parts; no work if there are none."""
    return sum(parts, Work({}))
