"""Scores to a plan: the allocate stage."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from numprune_export import statistics_folder
from numprune_export.allocate import Allocation, allocate
from numprune_export.bidirectional import BidirectionalEncoder
from numprune_export.errors import InputError, RecipeError
from numprune_export.fisher import budget
from numprune_export.fisher.budget import Search
from numprune_export.fisher.latency_budget import LatencyBudget
from numprune_export.fisher.rearrange import rearranged
from numprune_export.fisher.tuning import assistant_budget
from numprune_export.metric import Metrics, metrics_from_json, metrics_to_json
from numprune_export.pipeline import latency_budget
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.subject import Subject
from numprune_export.plan import Plan, Site
from numprune_export.run_folder import Stage

SCORES = "scores.safetensors"
PLAN = "plan.json"
BUDGET = "budget.json"


@dataclass(frozen=True)
class Planning:
    """What a plan is made of."""

    context: Context
    subject: Subject
    dense: Dense
    calibrated: Stage
    scored: Stage

    def stage(self) -> Stage:
        """`plan.json`, and for a budget in milliseconds what was predicted."""
        recipe = self.context.recipe
        settings, timed = recipe.allocate, self.timed

        def make(folder: Path) -> None:
            plan, found = self._plan(recipe.keep)
            (folder / PLAN).write_text(json.dumps(plan.to_json(), indent=1) + "\n")
            (folder / BUDGET).write_text(json.dumps(metrics_to_json(found), indent=1) + "\n")

        length = self.subject.mean_length if isinstance(settings, Search) else None
        inputs = [self.scored.key, recipe.keep, settings.model_dump(), length]
        return self.context.stage("allocate", "plan", inputs + [one.key for one in timed], make)

    def assistant(self) -> Plan:
        """The plan of a teacher between the dense model and the pruned one: found in the same way, at
        the geometric mean of the budget and the whole, before any rearrangement."""
        return self._plan(assistant_budget(self.context.recipe.keep, 1.0), final=False)[0]

    @cached_property
    def timed(self) -> tuple[Stage, ...]:
        """The table that a budget in milliseconds needs.

        Raises:
            RecipeError: such a budget is for encoders.
        """
        settings, family = self.context.recipe.allocate, self.dense.source.family
        if not isinstance(settings, LatencyBudget):
            return ()
        if not isinstance(family, BidirectionalEncoder):
            raise RecipeError(
                f"`allocate: latency` times encoders, and `{family.model_type}` is none",
                hint="use `global`, or `search` with a cost of MACs or parameters",
            )
        encoder = family.encoder(self.dense.model)
        return (latency_budget.timed(self.context, settings, self.dense, encoder),)

    def _plan(self, keep: float, *, final: bool = True) -> tuple[Plan, Metrics]:
        settings, found = self.context.recipe.allocate, {}
        sites = self.dense.loaded.family.sites(self.dense.model)
        scores = load_file(self.scored.folder / SCORES)
        if isinstance(settings, Allocation):
            return allocate(sites, scores, keep, settings), {}
        if isinstance(settings, LatencyBudget):
            measured = latency_budget.read(self.timed[0])
            limit = latency_budget.budget_ms(settings, measured, keep)
            fast = latency_budget.search(settings, sites, scores, measured, keep)
            found = latency_budget.budget_metrics(settings, limit, fast.predicted_ms)
            plan = fast.plan
        else:
            config, length = self.dense.model.config, self.subject.mean_length
            costs = budget.unit_costs(settings, sites, config, length)
            plan = budget.plan(settings, sites, scores, costs, keep)
        gradients = self._gradients(sites)
        if final and settings.rearrange and gradients:
            plan = rearranged(plan, gradients, until_stable=settings.until_stable)
        return plan, found

    def _gradients(self, sites: tuple[Site, ...]) -> dict[str, Float[Tensor, "rows units"]]:
        found = {
            site.name: statistics_folder.read_gradients(self.calibrated.folder, site)
            for site in sites
        }
        return {name: one for name, one in found.items() if one is not None}


def read_budget(folder: Path) -> Metrics:
    """`budget.*` of an allocate stage."""
    return metrics_from_json(json.loads((folder / BUDGET).read_text()))


def read_plan(folder: Path) -> Plan:
    """The plan of an allocate stage, as it is now.

    Raises:
        InputError: somebody changed it into what is no plan.
    """
    path = folder / PLAN
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"`{path}` is not readable: {error}",
            hint=f"delete the folder `{folder}` to have the plan made anew",
        ) from None
    return Plan.from_json(content)
