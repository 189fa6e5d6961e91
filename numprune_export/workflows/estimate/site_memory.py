"""Live bytes on a device while one site is scored or refitted.

Counted from the tensors that are alive at once where most are; small vectors are left out.
"""

from __future__ import annotations

from numprune_export.numerics.obs import PANEL
from numprune_export.pruning.score import Score
from numprune_export.pruning.score.fisher_obs import FisherObs, reads_output_fisher
from numprune_export.pruning.score.numerical import Numerical
from numprune_export.workflows.estimate.shapes import Sublayer


def statistics(site: Sublayer, *, fisher: bool) -> float:
    """A Gram matrix in fp32, and the Fisher matrix of the output in fp64."""
    return 4.0 * site.width**2 + (8.0 * site.inputs**2 if fisher else 0.0)


def scored(site: Sublayer, settings: Score) -> float:
    """Score of a site, its statistics included."""
    n, out = site.width, site.inputs
    fisher = reads_output_fisher(settings)
    held = statistics(site, fisher=fisher) + 8.0 * n * out
    if isinstance(settings, FisherObs):
        left = max(0, n - PANEL)
        # The inverse for the remaining inputs is made from the moments and the last inverse.
        panel = 8.0 * (n * n + left * n + left * left + left * (PANEL + out))
        return held + max(8.0 * 2 * n * n, panel) + 8.0 * n * n
    if isinstance(settings, Numerical):
        return held + 8.0 * 2 * n * n
    return held


def solved(site: Sublayer, kept: int) -> float:
    """One-shot compensation of a consumer that keeps this many inputs; without statistics."""
    n, out, gone = site.width, site.inputs, site.width - kept
    wide, system, right = 8.0 * n * out, 8.0 * kept * kept, 8.0 * kept * gone
    return wide + max(
        8.0 * n * n + system + right,
        2 * system + 2 * right,
        system + 2 * right + 8.0 * 3 * kept * out,
    )


def changed(left: Sublayer) -> float:
    """The producers' weights, their step, and its residual in fp32."""
    return 3 * 4.0 * left.produced * left.inputs


def refitted(whole: Sublayer, left: Sublayer) -> float:
    """Closed form of an MLP's consumer after its producers, with the producers' step in fp32."""
    width, out = left.width, left.inputs
    fitted = 4.0 * (width * width + 2 * width * out)
    return changed(left) + fitted + 8.0 * 3 * (width * width + width * out)
