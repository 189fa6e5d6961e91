"""Which units of a layer go, seen together (Kwon et al. 2022, arXiv:2204.09656, §4.2, Alg. 2).

With the off-diagonal entries of one layer's Fisher information a removed set P costs

    (1 − m)ᵀ I (1 − m) = ‖Σ over u in P of g_u‖²

where g_u is unit u's column of the mask gradients: gradients that cancel may go together. How many
units stay was settled by the search and does not change, so neither does the budget.
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
    """The plan with every site's units chosen anew by `rearrange`."""
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
    """The units that stay, sorted: greedy swaps from the set of the least diagonal importance.

    Kept units are visited from the least important up; each joins the removed set, and whichever
    then leaves the least loss comes back, the visitor itself among equals. So the loss never rises.

    Args:
        gradients: Of one site, as `unit_gradients` gives them.
        keep: How many units stay.
        until_stable: Visit all kept units again until a round changes nothing; one round, as
            published, otherwise.
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
    gone = [unit for unit in range(gradients.shape[1]) if unit not in stays]
    return float(gradients[:, gone].double().sum(1).square().sum())


def _round(products: NDArray[np.float64], removed: NDArray[np.bool_], order: list[int]) -> bool:
    """Visit every kept unit once; whether anything changed. `removed` is changed in place."""
    changed = False
    norms = products.diagonal()
    towards = products[removed].sum(0)  # ⟨g_u, Σ_P g⟩ for every u
    for unit in [one for one in order if not removed[one]]:
        towards += products[unit]
        removed[unit] = True
        # ‖Σ_P g − g_u‖² less what is the same for every u.
        losses = np.where(removed, norms - 2 * towards, np.inf)
        back = int(losses.argmin())
        # A gain below this is rounding, and would swap equals for ever.
        if losses[back] >= losses[unit] - 1e-12 * (abs(losses[unit]) + norms[unit]):
            back = unit
        removed[back] = False
        towards -= products[back]
        changed |= back != unit
    return changed
