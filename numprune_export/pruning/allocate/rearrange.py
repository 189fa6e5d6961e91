"""Rearrange: choose the removed units of a layer jointly.

Source: Kwon et al. 2022 (arXiv:2204.09656, §4.2, Alg. 2).

With the off-diagonal entries of one layer's Fisher information I the cost of a removed set P is

    (1 − m)ᵀ I (1 − m) = ‖Σ over u in P of g_u‖²

where g_u is unit u's column of the mask gradients: units whose gradients cancel can be removed
together. The number of kept units comes from the search and does not change, so the budget is still
met.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from numprune_export.calibration.gradients.mask_gradients import UnitGradients, importance
from numprune_export.pruning.plan import Plan


def rearranged(plan: Plan, gradients: UnitGradients, *, until_stable: bool = False) -> Plan:
    """The plan with the units of every site rechosen by `rearrange`."""
    kept = {
        site.name: rearrange(
            gradients[site.name], len(plan.kept[site.name]), until_stable=until_stable
        )
        for site in plan.sites
    }
    return Plan(plan.sites, kept)


def rearrange(
    gradients: Float[Tensor, "rows units"], keep: int, *, until_stable: bool = False
) -> tuple[int, ...]:
    """The kept units, sorted: greedy swaps, starting from the removed set of the least diagonal
    importance.

    Kept units are visited by rising importance. Each is added to the removed set, then the unit
    whose return leaves the least loss is kept instead; the visited unit wins ties. So the loss
    never rises.

    Args:
        gradients: Gradients of one site, from `unit_gradients`.
        keep: Number of kept units.
        until_stable: Repeat rounds until one changes nothing; false: one round, as published.
    """
    order: list[int] = importance(gradients).sort(stable=True).indices.tolist()
    units = len(order)
    removed = np.zeros(units, dtype=bool)
    removed[order[: units - keep]] = True
    if 0 < keep < units:
        wide = gradients.double().numpy(force=True)
        products = wide.T @ wide
        while _round(products, removed, order) and until_stable:
            continue
    return tuple(int(unit) for unit in np.flatnonzero(~removed))


def block_loss(gradients: Float[Tensor, "rows units"], kept: Iterable[int]) -> float:
    """‖Σ over removed u of g_u‖², fp64."""
    stays = set(kept)
    removed = [unit for unit in range(gradients.shape[1]) if unit not in stays]
    return float(gradients[:, removed].double().sum(1).square().sum())


def _round(products: NDArray[np.float64], removed: NDArray[np.bool_], order: list[int]) -> bool:
    """Visit every kept unit once and update `removed` in place; whether a unit was swapped."""
    changed = False
    norms = products.diagonal()
    towards = products[removed].sum(0)  # ⟨g_u, Σ_P g⟩ for every u
    for unit in [candidate for candidate in order if not removed[candidate]]:
        towards += products[unit]
        removed[unit] = True
        # ‖Σ_P g − g_u‖² minus the part that is equal for every u.
        losses = np.where(removed, norms - 2 * towards, np.inf)
        back = int(losses.argmin())
        # A smaller gain is rounding, and would swap equal units for ever.
        if losses[back] >= losses[unit] - 1e-12 * (abs(losses[unit]) + norms[unit]):
            back = unit
        removed[back] = False
        towards -= products[back]
        changed |= back != unit
    return changed
