"""Structured optimal brain surgeon: the removal order of a linear layer's inputs, and its cost.

Replacing the weight W by V changes a quadratic model of the loss by tr((W − V)ᵀ·F·(W − V)·A), with
A the curvature of the inputs and F the metric of the outputs. The best V with zeros in a unit's
columns p, and its cost, follow from H = A⁻¹ (Hassibi & Stork 1993, Eq. 5, for one weight; Kurtic et
al. 2023, arXiv:2302.04089, ZipLM, for whole units):

    V = W − W_p·H_pp⁻¹·H_p:        cost = tr(W_pᵀ·F·W_p·H_pp⁻¹)        H ← H − H_:p·H_pp⁻¹·H_p:

The last expression is the inverse for the remaining inputs, so the greedy order is a pivoted block
Cholesky of H. Costs of successive units add up exactly, because the remaining units are refitted
after every removal. F weights the cost and does not change V.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from numprune_export.numerics import least_squares
from numprune_export.numerics.removal_order import RemovalOrder

PANEL = 128
"""Inputs eliminated between two updates of the inverse: one matmul replaces many thin ones."""


def prune_order(
    weight: Float[Tensor, "out n"],
    curvature: Float[Tensor, "n n"],
    metric: Float[Tensor, "out out"] | None,
    *,
    width: int = 1,
    step: int = 1,
) -> RemovalOrder:
    """The greedy removal order of all units, least cost first, with the cumulative cost, fp64.

    Where fp64 is slow it is computed in fp32, which gives the same order up to near ties; if the
    curvature has no factor in fp32, in fp64 on the CPU.

    Args:
        weight: W, fp64.
        curvature: A, fp64, symmetric and positive definite up to rounding.
        metric: F, fp64, symmetric and positive semi-definite; None: the identity.
        width: Adjacent inputs per unit.
        step: Units removed at once: those of the lowest single costs, in that order. The cost of a
            step is the joint cost of its units, spread evenly over them.

    Raises:
        NumericalError: the curvature or the metric is not finite.
    """
    home, inverse = curvature.device, least_squares.inverse_as_computed(curvature)
    if inverse.device != home:  # fp64 is slow there
        weight, metric = weight.cpu(), None if metric is None else metric.cpu()
    metric = None if metric is None else metric.to(inverse.dtype)
    order, costs = _order(weight.to(inverse.dtype), inverse, metric, width, step)
    return RemovalOrder(order.to(home), costs.to(home))


def _order(
    weight: Float[Tensor, "out n"],
    inverse: Float[Tensor, "n n"],
    metric: Float[Tensor, "out out"] | None,
    width: int,
    step: int,
) -> tuple[Int64[Tensor, " units"], Float[Tensor, " costs"]]:
    """The order and the cumulative cost, computed in the dtype of the arguments.

    Args:
        inverse: H for all inputs.
    """
    rows = weight.T.clone() if metric is None else weight.T @ least_squares.square_root(metric)
    left = torch.arange(len(inverse) // width, device=inverse.device)
    order, costs = [], [inverse.new_zeros(1)]
    while len(left):
        picked, panel_costs, panel = _eliminate_panel(inverse, rows, width, step)
        order.append(left[picked])
        costs.append(panel_costs)
        stay = torch.ones_like(left, dtype=torch.bool).index_fill_(0, picked, False)
        left, inputs = left[stay], stay.repeat_interleave(width).nonzero()[:, 0]
        panel, rows = panel[:, inputs], rows[inputs]
        inverse = inverse[inputs][:, inputs].addmm_(panel.T, panel, alpha=-1)
    return torch.cat(order), torch.cat(costs).double().cumsum(0)


def _eliminate_panel(
    inverse: Float[Tensor, "n n"], rows: Float[Tensor, "n out"], width: int, step: int
) -> tuple[Int64[Tensor, " picked"], Float[Tensor, " picked"], Float[Tensor, "rank n"]]:
    """The next units, about PANEL columns, and the cost of each; `rows` (Wᵀ·R) is updated in place.

    Returns:
        Units, costs, and P such that the inverse for the remaining inputs is H − Pᵀ·P.
    """
    units = len(inverse) // width
    blocks = _diagonal_blocks(inverse, width)
    gone = torch.zeros(units, dtype=torch.bool, device=inverse.device)
    identity = torch.eye(width, dtype=blocks.dtype, device=blocks.device)
    panel = inverse.new_empty(0, len(inverse))
    picked: list[Tensor] = []
    costs: list[Tensor] = []
    for done in range(0, min(units, max(1, PANEL // width)), step):
        single = _single_costs(rows, blocks).masked_fill(gone, torch.inf)
        chosen = single.sort(stable=True).indices[: min(step, units - done)]
        inputs = (chosen[:, None] * width + torch.arange(width, device=chosen.device)).reshape(-1)
        across = inverse[inputs].addmm_(panel[:, inputs].T, panel, alpha=-1)
        factor = least_squares.cholesky(across[:, inputs])
        across = torch.linalg.solve_triangular(factor, across, upper=False)
        outputs = torch.linalg.solve_triangular(factor, rows[inputs], upper=False)
        rows.addmm_(across.T, outputs, alpha=-1)
        blocks -= _squares(across, width)
        gone[chosen] = True
        blocks = torch.where(gone[:, None, None], identity, blocks)
        panel = torch.cat([panel, across])
        picked.append(chosen)
        costs.append((outputs.square().sum() / len(chosen)).expand(len(chosen)))
    return torch.cat(picked), torch.cat(costs), panel


def _diagonal_blocks(matrix: Float[Tensor, "n n"], width: int) -> Float[Tensor, "units w w"]:
    units = len(matrix) // width
    blocks = matrix.reshape(units, width, units, width)
    return blocks.diagonal(dim1=0, dim2=2).permute(2, 0, 1).clone()


def _squares(across: Float[Tensor, "k n"], width: int) -> Float[Tensor, "units w w"]:
    """The diagonal blocks of PᵀP."""
    if width == 1:
        return across.square().sum(0)[:, None, None]
    parts = across.reshape(len(across), -1, width).transpose(0, 1)
    squares: Tensor = parts.mT @ parts
    return squares


def _single_costs(
    rows: Float[Tensor, "n out"], blocks: Float[Tensor, "units w w"]
) -> Float[Tensor, " units"]:
    """The cost of removing each unit alone."""
    units, width, _ = blocks.shape
    if width == 1:
        alone: Tensor = torch.linalg.vector_norm(rows, dim=1).square() / blocks[:, 0, 0]
        return alone
    parts: Tensor = torch.linalg.solve_triangular(
        least_squares.cholesky(blocks), rows.reshape(units, width, -1), upper=False
    )
    return parts.square().sum((1, 2))
