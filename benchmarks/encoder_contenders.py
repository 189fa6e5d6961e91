"""Who competes in `encoder_quality.py`: scores, how budgets are shared out, and repairs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from encoder_curves import SCORES

from numprune_export.pruning.allocate.budget_search import Search
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.pruning.compensate.mask_tuning import ScalarTuning
from numprune_export.pruning.compensate.teacher_refit import Refit
from numprune_export.pruning.score.magnitude import Magnitude
from numprune_export.pruning.score.numerical import Numerical
from numprune_export.pruning.score.stat import Stat
from numprune_export.recipe import Recipe

OTHERS: dict[str, Any] = {"stat": Stat(), "numerical": Numerical(), "magnitude": Magnitude()}
CLOSED: dict[str, ClosedForm] = {
    "one_shot": ClosedForm(affine=True, order="one_shot"),
    "sequential": ClosedForm(affine=True, order="sequential"),
}
"""Repairs beside the recipe's own, by their names in the table."""


@dataclass(frozen=True)
class Contender:
    """How units are scored and shared out."""

    score: str
    allocation: str


def contenders(scores: list[str], allocations: list[str], *, searched: bool) -> Iterator[Contender]:
    for score in scores:
        if score in SCORES:
            yield from (Contender(score, allocation) for allocation in allocations)
            continue
        if score == "fisher" or searched:
            yield Contender(score, "search")
        if score != "fisher":
            yield Contender(score, "threshold")


def own_search(chosen: Recipe) -> Search:
    return chosen.allocate if isinstance(chosen.allocate, Search) else Search()


def own_repair(chosen: Recipe) -> Refit | ScalarTuning:
    repair = chosen.compensate
    return repair if isinstance(repair, Refit | ScalarTuning) else Refit()
