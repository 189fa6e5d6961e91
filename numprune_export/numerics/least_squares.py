"""Ridge least squares on Gram matrices, and factors of nearly singular matrices.

All solvers need a Cholesky factor of A + R with a Gram matrix A. Rounding errors of A's entries are
relative to √(aᵢᵢaⱼⱼ), so a ridge relative to each aᵢᵢ compensates for them (Higham 2002, "Accuracy
and Stability of Numerical Algorithms", Thm 10.7, on the matrix scaled to a unit diagonal). Every
finite input has a solution. Where fp64 is slow, `arithmetic` says what is computed in fp32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from numprune_export.core.errors import NumericalError
from numprune_export.numerics.arithmetic import solves_on

RISE = 10.0
"""Factor between the ridges of successive attempts."""


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
        damping: Lower bound on all rᵢ.
        rounding: Relative error of the Gram's entries; rᵢ is at least this fraction of gᵢᵢ.

    Raises:
        NumericalError: a sum is not finite.
    """
    wide, gram = prior.double(), gram.double()
    right = (cross.double() - wide @ gram).T
    return wide + ridge_solve(gram.clone(), right, damping, rounding=rounding).T


def ridge_solve(
    gram: Float[Tensor, "n n"],
    right: Float[Tensor, "n k"],
    damping: float,
    *,
    rounding: float = 0.0,
) -> Float[Tensor, "n k"]:
    """Solve (G + diag r)·X = B for X; arguments as in `ridge`, but r is added to `gram` itself."""
    return solver(damp(gram, damping, rounding))(right)


def solver(matrix: Float[Tensor, "n n"]) -> Callable[[Float[Tensor, "n k"]], Float[Tensor, "n k"]]:
    """A function that solves A·X = B for a symmetric positive definite A, fp64.

    In fp32, X is refined once, with an fp64 residual; if A has no factor in fp32, it is solved in
    fp64 on the CPU.

    Raises:
        NumericalError: an entry is not finite.
    """
    solves, factor = solves_on(matrix.device), _short_factor(matrix)
    if factor is not None:
        return lambda right: _refined(matrix, factor, right)
    if solves == "float64":
        whole = cholesky(matrix)
        return lambda right: torch.cholesky_solve(right, whole)
    whole = cholesky(matrix.cpu())
    return lambda right: torch.cholesky_solve(right.cpu(), whole).to(right.device)


def _short_factor(matrix: Float[Tensor, "n n"]) -> Float[Tensor, "n n"] | None:
    """The Cholesky factor in fp32; None if there is none, or if it is not to be used."""
    if solves_on(matrix.device) != "float32, refined":
        return None
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(matrix.float())
    return factor if _usable(factor, failed) else None


def _refined(
    matrix: Float[Tensor, "n n"], factor: Float[Tensor, "n n"], right: Float[Tensor, "n k"]
) -> Float[Tensor, "n k"]:
    first = torch.cholesky_solve(right.float(), factor).double()
    residual = right - matrix @ first
    return first + torch.cholesky_solve(residual.float(), factor)


def product(left: Float[Tensor, "m n"], right: Float[Tensor, "n k"]) -> Float[Tensor, "m k"]:
    """A product of fp64 matrices that hold numbers of less precision; in fp32 where fp64 is
    slow."""
    if solves_on(left.device) == "float64":
        return left @ right
    return (left.float() @ right.float()).double()


def mean_ridge(gram: Float[Tensor, "n n"], damping: float) -> float:
    """A ridge relative to the mean of the diagonal; `damping` itself if the mean is 0, where any
    ridge leaves the weight unchanged."""
    return damping * (float(gram.diagonal().double().mean()) or 1.0)


def damp(gram: Float[Tensor, "n n"], damping: float, rounding: float = 0.0) -> Float[Tensor, "n n"]:
    """G + diag r with rᵢ the larger of `damping` and `rounding`·gᵢᵢ, in place: a square of a wide
    layer is a large part of a device's memory."""
    diagonal = gram.diagonal()
    diagonal.add_((rounding * diagonal).clamp_min(damping))
    return gram


def inverse(matrix: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """The inverse of a symmetric positive definite matrix, fp64.

    Raises:
        NumericalError: an entry is not finite.
    """
    return inverse_as_computed(matrix).to(matrix)


def inverse_as_computed(matrix: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """As `inverse`, in the dtype and on the device that it is computed in: in fp32 where fp64 is
    slow, or on the CPU.

    Raises:
        NumericalError: an entry is not finite.
    """
    factor = _short_factor(matrix)
    if factor is None:
        home = matrix.device if solves_on(matrix.device) == "float64" else "cpu"
        factor = cholesky(matrix.to(home))
    return torch.cholesky_inverse(factor)


def cholesky(matrix: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch n n"]:
    """Lower L with L·Lᵀ = A, or A + τ·diag|A| where A is not positive definite.

    τ starts at the rounding of the dtype and rises until a factor exists. One exists for every
    finite symmetric A, because A + τ·diag|A| becomes diagonally dominant.

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
    """`cholesky` with a ridge for the matrices that failed; the others are unchanged."""
    least, diagonal = torch.finfo(matrix.dtype).eps, matrix.diagonal(dim1=-2, dim2=-1).abs()
    size = matrix.abs().amax((-2, -1))[..., None]
    # For a zero matrix any ridge works.
    scale = diagonal.maximum(least * size) + (size == 0)
    fraction, usable, factor = least * matrix.shape[-1], False, matrix
    while not usable:
        raised = matrix + torch.diag_embed(fraction * scale * failed[..., None])
        _require_finite(raised)
        factor, info = torch.linalg.cholesky_ex(raised)
        usable, failed, fraction = _usable(factor, info), failed | (info > 0), fraction * RISE
    return factor


def square_root(metric: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """R with R·Rᵀ = F: the Cholesky factor, or one from eigenvalues where F has none, for example
    because F is a mean of few outer products.

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
    """The largest absolute eigenvalue of a symmetric matrix."""
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
