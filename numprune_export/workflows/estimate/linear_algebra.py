"""Work of the linear algebra of scores and compensation: fp64, once per site."""

from __future__ import annotations

from numprune_export.calibration.store import fisher_bytes, gram_bytes
from numprune_export.numerics.obs import PANEL
from numprune_export.pruning.compensate.mask_tuning import ScalarTuning
from numprune_export.pruning.compensate.teacher_refit import Refit
from numprune_export.pruning.score import Score
from numprune_export.pruning.score.fisher import Fisher
from numprune_export.pruning.score.fisher_obs import FisherObs, reads_output_fisher
from numprune_export.pruning.score.numerical import Numerical
from numprune_export.workflows.estimate.shapes import Sublayer
from numprune_export.workflows.estimate.work import Work

COPIES = 4
"""Writes and reads of fp64 copies of a Gram matrix while a linear system is set up."""
THIN = 1.5
"""Time of a product of PANEL columns, relative to one of many."""
LSMR_PASSES = 60
"""Matrix products until LSMR converges; the published code sets no smaller limit."""


def cholesky_operations(size: int, right: int) -> float:
    """Cholesky factor of an n·n matrix, and solutions for `right` right-hand sides."""
    return size**3 / 3 + 2.0 * size**2 * right


def elimination(inputs: int, outputs: int) -> Work:
    """Inverse, and removal of all inputs panel by panel; see `numerics.obs`.

    A panel updates the inverse by a product of few columns, and copies what remains of it: summed
    over the panels, a third of n³ / PANEL entries. Each entry is moved as `memory64` counts it.
    """
    cube = float(inputs) ** 3
    return Work(
        {
            "cholesky": cube,
            "products64": THIN * (2 / 3 * cube + float(inputs) ** 2 * outputs),
            "memory64": 4 * 8.0 * cube / (3 * PANEL),
        }
    )


def statistics_bytes(sublayer: Sublayer, *, gram: bool = True, fisher: bool = False) -> float:
    """Statistics of one site on disk, as far as they are there."""
    size = gram_bytes(sublayer.width) if gram else 0
    return float(size + (fisher_bytes(sublayer.inputs) if fisher else 0))


def score(sublayer: Sublayer, settings: Score, gradients: float, *, stored: bool) -> Work:
    """Score of one site, including reading its statistics.

    Args:
        sublayer: The site.
        settings: The score.
        gradients: Number of tokens with gradients.
        stored: Whether its Gram matrix is read from disk.
    """
    n, out = sublayer.width, sublayer.inputs
    fisher = reads_output_fisher(settings)
    work = Work(
        {
            "files": statistics_bytes(sublayer, gram=stored, fisher=fisher),
            "memory64": 8.0 * n * out,
            "calls": 60.0,
        }
    )
    if isinstance(settings, FisherObs):
        steps = n / sublayer.unit if sublayer.kind == "attention" else n / settings.step
        work += Work(
            {
                "memory64": 8.0 * COPIES * n * n,
                "calls": 25 * steps,
            }
        ) + elimination(n, out)
        if fisher:
            work += Work({"products64": 2.0 * n * out**2})
            # Fewer outer products than rows: the metric is singular and needs eigenvectors.
            rooted = gradients >= out
            work += Work({"cholesky": out**3 / 3} if rooted else {"eigen": float(out) ** 3})
    if isinstance(settings, Numerical):
        times = settings.iterations or 1
        work += Work(
            {
                "products64": 2.0 * n * n * out,
                "cholesky": cholesky_operations(n, times),
                "memory64": 8.0 * COPIES * n * n,
            }
        )
    if isinstance(settings, Fisher):
        work += Work({"memory64": 8.0 * n})
    return work


def closed_form(sublayer: Sublayer, keep: float) -> Work:
    """Closed-form compensation of one site that keeps a fraction of its inputs."""
    kept = round(keep * sublayer.width)
    gone = sublayer.width - kept
    return Work(
        {
            "cholesky": cholesky_operations(kept, gone),
            "products64": 2.0 * sublayer.inputs * kept * gone,
            "memory64": 8.0 * COPIES * sublayer.width**2,
            "calls": 60.0,
        }
    )


def tuning(sublayer: Sublayer, settings: ScalarTuning | Refit) -> Work:
    """Fit of one site to a teacher; `sublayer` is the site after pruning."""
    n, out = sublayer.width, sublayer.inputs
    work = Work({"products64": 6.0 * out * n * n, "memory64": 8.0 * COPIES * n * n, "calls": 150.0})
    if isinstance(settings, Refit):
        return work + Work(
            {"cholesky": cholesky_operations(n, out), "products64": 2.0 * n * n * out}
        )
    units = n // sublayer.unit
    passes = Work({"memory64": 16.0 * units**2, "calls": 40.0}).times(LSMR_PASSES)
    return work + Work({"products64": 2.0 * n * n * out}) + passes
