"""Scores to a plan: the allocate stage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from numprune_export.core.errors import InputError
from numprune_export.core.metric import Metric, Metrics, metrics_from_json, metrics_to_json
from numprune_export.core.run_folder import Stage, key_of
from numprune_export.measure.quality.divergence import DenseAnswers
from numprune_export.models.encoder import BidirectionalEncoder
from numprune_export.numerics.removal_order import Removal
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.kinds.kind import Subject, windows_key
from numprune_export.pipeline.stages import time_sublayers
from numprune_export.pipeline.stages.calibrated import Calibrated
from numprune_export.pipeline.stages.pricing import price_of
from numprune_export.pipeline.start import Start
from numprune_export.pruning import apply
from numprune_export.pruning.allocate import budget, error_curves
from numprune_export.pruning.allocate.attention_weight import tuned
from numprune_export.pruning.allocate.budget import Search
from numprune_export.pruning.allocate.error_curves import Curves
from numprune_export.pruning.allocate.latency.latency_budget import LatencyBudget
from numprune_export.pruning.allocate.rearrange import rearranged
from numprune_export.pruning.allocate.threshold import Allocation, allocate
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.pruning.compensate.distill_layers import assistant_budget
from numprune_export.pruning.plan import Plan, Site
from numprune_export.recipe.conflicts import timing_of
from numprune_export.recipe.schema import Repair

SCORES = "scores.safetensors"
REMOVALS = "removals.safetensors"
PLAN = "plan.json"
PLAN_KEY = "plan.sha256"
"""Hash of the plan as it was made: of one edited since, another."""
BUDGET = "budget.json"


@dataclass(frozen=True)
class Planning:
    """What a plan is made of."""

    context: Context
    subject: Subject
    """Its calibration text is that which plans are tried out on."""
    start: Start
    calibrated: Calibrated
    scored: Stage
    keep: float
    """Fraction of the dense model that is to be left."""

    @property
    def inputs(self) -> list[Any]:
        """All that the plan depends on, JSON-able."""
        settings = self.context.recipe.allocate
        length = None
        if isinstance(settings, Search | Curves) and settings.cost == "macs":
            length = self.subject.mean_length if settings.length is None else None
        keys = [one.key for one in self.timed]
        return [self.scored.key, self.keep, settings.model_dump(), length, *self._trial_key, *keys]

    def write(self, folder: Path, *, whole: bool) -> None:
        """`plan.json`, and what was found on the way to it: predictions, divergences.

        Args:
            whole: Write the plan as one of the dense model, not of what this round starts from.
        """
        plan, found = self._plan(self.keep)
        plan = self.start.whole(plan) if whole else plan
        (folder / PLAN).write_text(json.dumps(plan.to_json(), indent=1) + "\n")
        (folder / PLAN_KEY).write_text(key_of(plan.to_json()) + "\n")
        (folder / BUDGET).write_text(json.dumps(metrics_to_json(found), indent=1) + "\n")

    def assistant(self) -> Plan:
        """The plan of a teacher between the dense model and the pruned one: found in the same way, at
        the geometric mean of the budget and the whole, before any rearrangement."""
        return self._plan(assistant_budget(self.keep, 1.0), final=False)[0]

    @cached_property
    def timed(self) -> tuple[Stage, ...]:
        """The table that a budget in milliseconds needs."""
        settings, family = timing_of(self.context.recipe.allocate), self.start.family
        if settings is None:
            return ()
        assert isinstance(family, BidirectionalEncoder), family
        encoder = family.encoder(self.start.model)
        return (time_sublayers.timed(self.context, settings, self.start.dense, encoder),)

    @property
    def _trial_key(self) -> list[Any]:
        """The repair and the text too, where plans are tried out with them."""
        recipe = self.context.recipe
        if not isinstance(recipe.allocate, Curves) or len(recipe.allocate.candidates) == 1:
            return []
        repair = interim(recipe.compensate).model_dump()
        return [repair, windows_key(self.subject.calibration), self.subject.calibration_batch]

    def _plan(self, keep: float, *, final: bool = True) -> tuple[Plan, Metrics]:
        settings, sites, found = self.context.recipe.allocate, self.start.sites, {}
        scores = load_file(self.scored.folder / SCORES)
        if isinstance(settings, Allocation):
            whole = sum(site.parameters for site in self._dense_sites)
            rest = sum(site.parameters for site in sites)
            return allocate(sites, scores, min(1.0, keep * whole / rest), settings), {}
        if isinstance(settings, Curves):
            return self._by_curves(settings, keep)
        if isinstance(settings, LatencyBudget):
            measured = time_sublayers.read(self.timed[0])
            limit = time_sublayers.budget_ms(settings, measured, keep)
            fast = time_sublayers.search(settings, sites, scores, measured, keep)
            found = time_sublayers.budget_metrics(settings, measured, limit, fast.predicted_ms)
            plan = fast.plan
        else:
            config, length = self.start.model.config, self.subject.mean_length
            costs = budget.unit_costs(settings, sites, config, length)
            plan = budget.plan(settings, sites, scores, costs, keep)
        gradients = self._gradients(sites)
        if final and settings.rearrange and gradients:
            plan = rearranged(plan, gradients, until_stable=settings.until_stable)
        return plan, found

    def _by_curves(self, settings: Curves, keep: float) -> tuple[Plan, Metrics]:
        removals = read_removals(self.scored.folder, self.start.sites)
        if settings.timed is not None:
            measured = time_sublayers.read(self.timed[0])
            price, left = time_sublayers.curve_budget(settings, self.start.sites, measured, keep)
        else:
            price = price_of(settings, self.start.model.config, self.subject.mean_length)
            whole, rest = (
                sum(price(site, range(site.units)) for site in sites)
                for sites in (self._dense_sites, self.start.sites)
            )
            left = min(1.0, keep * whole / rest)

        def plan(attention: float) -> Plan:
            return error_curves.allocate(
                self.start.sites, removals, left, settings, attention=attention, price=price
            )

        expect = self.context.observer.expect
        found, metrics = tuned(plan, settings.candidates, self._divergence, expect)
        if settings.timed is not None:
            limit = time_sublayers.budget_ms(settings.timed, measured, keep)
            fast = time_sublayers.predicted_ms(found, measured)
            metrics |= time_sublayers.budget_metrics(settings.timed, measured, limit, fast)
        return found, metrics

    def _divergence(self, plan: Plan) -> Metric:
        """Of the model that a plan leaves, its weights refitted at once, from the dense one."""
        repair = interim(self.context.recipe.compensate)
        small = apply.one_shot(
            self.start.model, self.start.family, plan, repair, self.calibrated.read
        )
        self.context.observer.advance(1)
        return self._answers.divergence(small)

    @cached_property
    def _answers(self) -> DenseAnswers:
        return self.subject.answers(self.start.dense.model)

    @property
    def _dense_sites(self) -> tuple[Site, ...]:
        return self.start.family.sites(self.start.dense.model)

    def _gradients(self, sites: tuple[Site, ...]) -> dict[str, Float[Tensor, "rows units"]]:
        found = {site.name: self.calibrated.unit_gradients(site) for site in sites}
        return {name: one for name, one in found.items() if one is not None}


def interim(repair: Repair) -> ClosedForm:
    """How weights are refitted where a plan is only tried out, or another round follows."""
    if isinstance(repair, ClosedForm):
        return repair.model_copy(update={"order": "one_shot", "every": 1, "producers": None})
    return ClosedForm(affine=True, order="one_shot")


def read_removals(folder: Path, sites: Sequence[Site]) -> dict[str, Removal]:
    """By site name, the order of removal that a score stage found."""
    found = load_file(folder / REMOVALS)
    return {
        site.name: Removal(found[f"{site.name}.order"], found[f"{site.name}.error"])
        for site in sites
    }


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


def was_edited(folder: Path, plan: Plan) -> bool:
    """Whether a plan is not the one that the allocate stage made; False where an earlier version made
    it, which did not say."""
    path = folder / PLAN_KEY
    return path.is_file() and path.read_text().strip() != key_of(plan.to_json())
