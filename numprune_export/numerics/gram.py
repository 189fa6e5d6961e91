"""Gram matrices that stay positive semi-definite when the mean is subtracted.

Where inputs hardly vary, a covariance is a small difference of large sums, so its rounding errors
are relative to the mean, not to the variance (Chan, Golub & LeVeque 1983, "Algorithms for computing
the sample variance"). Sums over x − s with a constant s have the same covariance. With s the mean
of the first of N equal batches, the second moment of x − s is at most N times the variance.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from numprune_export.numerics.arithmetic import multiplied_as_they_are, product_sum
from numprune_export.numerics.matmul_precision import shortened

STRIPES = 4
"""A Gram matrix is symmetric; it is accumulated in this many row stripes, upper triangle only."""


def rounding(tokens: int, dtype: torch.dtype = torch.float32) -> float:
    """Relative error of a sum over tokens in this dtype: a random walk with one step per token."""
    return float(torch.finfo(dtype).eps * max(tokens, 1) ** 0.5)


def shift_of(rows: Float[Tensor, "tokens n"]) -> Float[Tensor, " n"]:
    """The mean, fp32, rounded to the dtype of x, so that x − s is exact for x near s."""
    return rows.mean(0, dtype=torch.float32).to(rows.dtype).float()


def shifted(
    rows: Float[Tensor, "tokens n"], shift: Float[Tensor, " n"]
) -> Float[Tensor, "tokens n"]:
    """x − s in fp32, rounded once to the precision of a matmul's operands; in bfloat16 where such
    rows are multiplied as they are.

    So matmuls and plain sums of the result use the same numbers at every matmul precision.

    Args:
        rows: x.
        shift: s, from `shift_of` on rows of the same dtype.
    """
    if multiplied_as_they_are(rows):
        return rows - shift.to(rows.dtype)
    if shortened(rows.device):
        return (rows - shift.to(rows.dtype)).bfloat16().float()
    return rows.float() - shift


def add_upper_gram(gram: Float[Tensor, "n n"], rows: Float[Tensor, "tokens n"]) -> None:
    """Add Σ x xᵀ on and above the diagonal, with 5/8 of the multiplications of the full product."""
    step = -(-rows.shape[1] // STRIPES) or 1
    for start in range(0, rows.shape[1], step):
        stripe = rows[:, start : start + step]
        into = gram[start : start + step, start:]
        if multiplied_as_they_are(rows):
            into.add_(product_sum(stripe, rows[:, start:]))
        else:
            into.addmm_(stripe.T, rows[:, start:])


def mirrored(upper: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """The symmetric matrix with this upper triangle, in place; entries below the diagonal are not
    read."""
    size = len(upper)
    step = -(-size // (4 * STRIPES)) or 1
    for start in range(0, size, step):
        stop = min(start + step, size)
        block = upper[start:stop, start:stop]
        block.copy_(block.triu() + block.triu(1).T)
        upper[stop:, start:stop] = upper[start:stop, stop:].T
    return upper


def scatter(
    gram: Float[Tensor, "n n"], total: Float[Tensor, " n"], tokens: int
) -> Float[Tensor, "n n"]:
    """Σ (x − μ)(x − μ)ᵀ, fp64, from Σ y yᵀ and Σ y with y = x − s for any s."""
    wide = gram.double() if gram.dtype != torch.float64 else gram.clone()
    total = total.double()
    return wide.addr_(total, total, alpha=-1 / tokens) if tokens else wide
