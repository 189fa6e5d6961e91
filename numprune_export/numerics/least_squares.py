"""Ridge least squares on sums, and factors of matrices that are positive definite up to rounding.

All of them need a Cholesky factor of A + R, A a Gram matrix. Rounding errors of A's entries are relative to √(aᵢᵢaⱼⱼ),
so a ridge relative to each aᵢᵢ makes up for them (Higham 2002, "Accuracy and Stability of Numerical Algorithms",
Thm 10.7: what counts is the matrix scaled to a unit diagonal). No input that is finite is refused.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from numprune_export.core.errors import NumericalError

RISE = 10.0
"""From one try of a larger ridge to the next."""


def ridge(
    gram: Float[Tensor, "n n"],
    cross: Float[Tensor, "out n"],
    prior: Float[Tensor, "out n"],
    damping: float,
    *,
    rounding: float = 0.0,
) -> Float[Tensor, "out n"]:
    """argmin over V of Σ ‖V·x − b‖² + Σᵢ rᵢ·‖(V − W)ᵢ‖², fp64.

    Args:
        gram: Σ x xᵀ, symmetric.
        cross: Σ b xᵀ.
        prior: W.
        damping: What all rᵢ are, at least.
        rounding: Relative error of the Gram's entries; rᵢ is at least this part of its diagonal.

    Raises:
        NumericalError: a sum is not finite.
    """
    wide, gram = prior.double(), gram.double()
    right = (cross.double() - wide @ gram).T
    return wide + ridge_solve(gram, right, damping, rounding=rounding).T


def ridge_solve(
    gram: Float[Tensor, "n n"],
    right: Float[Tensor, "n k"],
    damping: float,
    *,
    rounding: float = 0.0,
) -> Float[Tensor, "n k"]:
    """X of (G + diag r)·X = B; the arguments are those of `ridge`."""
    solution: Tensor = torch.cholesky_solve(right, cholesky(damped(gram, damping, rounding)))
    return solution


def mean_ridge(gram: Float[Tensor, "n n"], damping: float) -> float:
    """A ridge relative to the mean of the diagonal; `damping` itself where that is nothing, for any ridge then
    leaves what was there."""
    return damping * (float(gram.diagonal().double().mean()) or 1.0)


def damped(
    gram: Float[Tensor, "n n"], damping: float, rounding: float = 0.0
) -> Float[Tensor, "n n"]:
    """G + diag r with rᵢ the larger of `damping` and `rounding`·gᵢᵢ, in memory of its own."""
    system = gram.clone()
    diagonal = system.diagonal()
    diagonal.add_((rounding * diagonal).clamp_min(damping))
    return system


def inverse(matrix: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Of a symmetric positive definite matrix.

    Raises:
        NumericalError: an entry is not finite.
    """
    return torch.cholesky_inverse(cholesky(matrix))


def cholesky(matrix: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch n n"]:
    """Lower L with L·Lᵀ = A, or A + τ·diag|A| where A is not positive definite.

    τ starts at rounding of the dtype and rises until there is a factor. There is one for every finite
    symmetric A: in the end it is diagonally dominant.

    Raises:
        NumericalError: an entry is not finite.
    """
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if not _usable(factor, failed):
        factor = _raised_cholesky(matrix, failed > 0)
    return factor


def _raised_cholesky(
    matrix: Float[Tensor, "*batch n n"], failed: Bool[Tensor, "*batch"]
) -> Float[Tensor, "*batch n n"]:
    """`cholesky` of those that have no factor themselves; the others stay as they are."""
    least, diagonal = torch.finfo(matrix.dtype).eps, matrix.diagonal(dim1=-2, dim2=-1).abs()
    size = matrix.abs().amax((-2, -1))[..., None]
    # Where all is zero any ridge will do.
    scale = diagonal.maximum(least * size) + (size == 0)
    part, usable, factor = least * matrix.shape[-1], False, matrix
    while not usable:
        raised = matrix + torch.diag_embed(part * scale * failed[..., None])
        _require_finite(raised)
        factor, again = torch.linalg.cholesky_ex(raised)
        usable, failed, part = _usable(factor, again), failed | (again > 0), part * RISE
    return factor


def square_root(metric: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """R with R·Rᵀ = F: its Cholesky factor; by eigenvalues where it has none, as a mean of few outer products,
    or what rounding has left of one.

    Raises:
        NumericalError: an entry is not finite, or the eigenvalues do not converge.
    """
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(metric)
    if not _usable(factor, failed):
        values, vectors = eigen(metric)
        factor = vectors * values.clamp_min(0).sqrt()
    return factor


def eigen(matrix: Float[Tensor, "n n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    """Eigenvalues, rising, and eigenvectors of a symmetric matrix.

    Raises:
        NumericalError: an entry is not finite, or the iteration does not converge.
    """
    _require_finite(matrix)
    try:
        values, vectors = torch.linalg.eigh(matrix)
    except LinAlgError as error:
        raise NumericalError(
            f"the eigenvalues of a matrix of {len(matrix)} rows do not converge",
            hint="use more calibration text, or another `score`",
        ) from error
    return values, vectors


def spectral_norm(matrix: Float[Tensor, "n n"]) -> float:
    """Of a symmetric matrix."""
    return float(eigen(matrix)[0].abs().max())


def _usable(factor: Tensor, failed: Tensor) -> bool:
    return not bool(failed.any()) and _finite(factor.diagonal(dim1=-2, dim2=-1))


def _finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())


def _require_finite(matrix: Tensor) -> None:
    if not _finite(matrix):
        raise NumericalError(
            "moments of activations, weights or gradients are NaN or infinite",
            hint="check the checkpoint, or prune it in `dtype: float32`",
        )
