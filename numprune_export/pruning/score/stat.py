"""STAT: pivoted QR of the activations (Flynn et al. 2024, arXiv:2406.00061, §3).

With activations A (tokens × inputs), A·P = Q·R picks at each step the input with the largest
component outside the span of the inputs picked before. The first k pivots are kept; the others are
reconstructed by the interpolation T = A_I⁺·A, which is the `closed_form` refit. Pivoted QR of A
equals pivoted Cholesky of its Gram matrix AᵀA = RᵀR: same pivots, same R up to signs. So the Gram
matrix suffices, without labels or gradients.

Attention heads are picked whole: at each step the head whose columns have the largest Frobenius
norm outside the span of the heads picked before.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, ClassVar, Literal

from numprune_export.core.settings import Strict

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Generator, Tensor

    from numprune_export.calibration.statistics import Statistics

PANEL = 64
"""Columns picked between two updates of the remainder: one matmul replaces 64 outer products."""


class Stat(Strict):
    """Pivot norms of arXiv:2406.00061. Use them with `allocate.standardise: false`: the paper
    applies one tolerance to all sites."""

    method: Literal["stat"] = "stat"
    estimates_loss: ClassVar[bool] = False

    def __call__(
        self,
        weight: Float[Tensor, "out n"],
        statistics: Statistics,
        *,
        keep: float,
        generator: Generator,
    ) -> Float[Tensor, " n"]:
        """|R_kk| / |R_11| of the step k that picked the input's unit, fp64. It falls along the
        pivots and is 0 for linear combinations of earlier inputs. The other arguments are not
        used."""
        order, norms = pivots(statistics.gram, statistics.unit_width)
        scores = norms.new_zeros(len(norms))
        scores[order] = norms / norms[:1].clamp_min(1e-300)
        return scores.repeat_interleave(statistics.unit_width)


def pivots(gram: Float[Tensor, "n n"], width: int) -> tuple[list[int], Float[Tensor, " units"]]:
    """Pivoted block Cholesky: units in the order of picking, and the norm of each when picked.

    Args:
        gram: AᵀA, fp64, symmetric and positive semi-definite up to rounding.
        width: Adjacent columns per unit.

    Returns:
        All units; once the remainder is only rounding, the rest follow by index with norm 0.
    """
    from numprune_export.numerics.indexing import columns_of_units

    units = list(range(len(gram) // width))
    noise = len(gram) * sys.float_info.epsilon * float(gram.diagonal().max())
    order: list[int] = []
    norms = gram.new_zeros(len(units))
    while units:
        picked, panel_norms, panel = _panel(gram, width, noise)
        norms[len(order) : len(order) + len(picked)] = panel_norms
        order += [units[index] for index in picked]
        removed = set(picked)
        stay = [index for index in range(len(units)) if index not in removed]
        units = [units[index] for index in stay]
        if not picked:
            return order + units, norms
        columns = columns_of_units(stay, width)
        gram, panel = gram[columns][:, columns], panel[columns]
        gram.addmm_(panel, panel.T, alpha=-1)
    return order, norms


def _panel(
    rest: Float[Tensor, "n n"], width: int, noise: float
) -> tuple[list[int], Float[Tensor, " picked"], Float[Tensor, "n r"]]:
    """The next pivots, up to PANEL columns: units, norms, and their rows of R, transposed."""
    import torch

    residual = rest.diagonal().clone()
    panel, rank = rest.new_zeros(len(rest), max(PANEL, width)), 0
    picked: list[int] = []
    norms: list[Tensor] = []
    for _ in range(min(max(1, PANEL // width), len(rest) // width)):
        energy = residual.view(-1, width).sum(1)
        energy[picked] = -math.inf
        unit = int(energy.argmax())
        if float(energy[unit]) <= width * noise:
            break
        own = slice(unit * width, (unit + 1) * width)
        columns = rest[:, own] - panel[:, :rank] @ panel[own, :rank].T
        factor = columns @ _inverse_root(columns[own], noise)
        panel[:, rank : rank + factor.shape[1]] = factor
        rank += factor.shape[1]
        residual = (residual - factor.square().sum(1)).clamp_min(0)
        picked.append(unit)
        norms.append(energy[unit].sqrt())
    return picked, torch.stack(norms) if norms else rest.new_zeros(0), panel[:, :rank]


def _inverse_root(block: Float[Tensor, "w w"], noise: float) -> Float[Tensor, "w r"]:
    """B with B·Bᵀ the pseudo-inverse of a unit's remainder; dependent columns are dropped."""
    from numprune_export.numerics.least_squares import eigen

    values, vectors = eigen((block + block.T) / 2)
    real = values > noise
    root: Tensor = vectors[:, real] / values[real].sqrt()
    return root
