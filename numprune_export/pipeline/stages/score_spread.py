"""How the scores of what a plan keeps and of what it removes lie, for the report."""

from __future__ import annotations

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from numprune_export.core.run_folder import Stage
from numprune_export.pipeline.stages.allocate import SCORES
from numprune_export.pruning.plan import Plan
from numprune_export.report.schema import QUANTILES, SiteScores


def score_spread(scored: Stage, plan: Plan) -> dict[str, SiteScores]:
    """By site.

    Args:
        scored: Scores of the dense model: the first round's.
        plan: Of the dense model.
    """
    columns = load_file(scored.folder / SCORES)
    found = {}
    for site in plan.sites:
        units = columns[site.name].double().reshape(site.units, -1).mean(1)
        found[site.name] = SiteScores(
            kept=_quantiles(units[list(plan.kept[site.name])]),
            removed=_quantiles(units[list(plan.removed(site))]),
        )
    return found


def _quantiles(scores: Float[Tensor, " units"]) -> tuple[float, ...]:
    """At `QUANTILES`, linear between neighbours; none of nothing."""
    if not len(scores):
        return ()
    at = torch.tensor(QUANTILES, dtype=scores.dtype) / 100
    return tuple(torch.quantile(scores, at).tolist())
