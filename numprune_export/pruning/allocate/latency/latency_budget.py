"""Recipe settings of the search under a budget in milliseconds."""

from __future__ import annotations

from typing import Literal

from numprune_export.pruning.allocate.latency.settings import Timing
from numprune_export.pruning.allocate.widths import Widths


class LatencyBudget(Timing, Widths):
    """`latency`: the plan of the highest summed score that is predicted to take at most `keep` of the
    dense model's time on a target of the run (Kwon et al. 2022, arXiv:2204.09656, §4.1)."""

    method: Literal["latency"] = "latency"
    rearrange: bool = True
    """With `score: fisher`: swap units within a layer by its whole Fisher information, §4.2."""
    until_stable: bool = False
    """Rearrange until a round changes nothing; one round as published."""
