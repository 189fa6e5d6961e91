"""Scores to a plan: the allocate stage."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from numprune_export.core.errors import InputError
from numprune_export.core.metric import Metric, Metrics, metrics_from_json, metrics_to_json
from numprune_export.core.run_folder import Stage, key_of
from numprune_export.export.encoder import Encoder
from numprune_export.measure.quality.divergence import DenseLogits
from numprune_export.models.site import Site
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.kinds.calibration_texts import CalibrationTexts, windows_key
from numprune_export.pipeline.kinds.kind import ModelKind
from numprune_export.pipeline.models import RoundInput
from numprune_export.pipeline.stages import time_sublayers
from numprune_export.pipeline.stages.calibrate import Calibrated
from numprune_export.pipeline.stages.score import read_site_scores
from numprune_export.pruning import apply
from numprune_export.pruning.allocate.budget_search import Search
from numprune_export.pruning.allocate.cost import ForwardPass
from numprune_export.pruning.allocate.error_curves import Curves
from numprune_export.pruning.allocate.latency.settings import LatencyBudget
from numprune_export.pruning.allocate_sites import Allocated, CostBasis, allocate
from numprune_export.pruning.compensate.closed_form import ClosedForm
from numprune_export.pruning.compensate.distill_layers import assistant_budget
from numprune_export.pruning.plan import Plan
from numprune_export.recipe.conflicts import timing_of
from numprune_export.recipe.schema import Repair

PLAN = "plan.json"
PLAN_KEY = "plan.sha256"
"""Hash of the plan as it was made: of one edited since, another."""
BUDGET = "budget.json"


@dataclass(frozen=True)
class Planning:
    """What a plan is made of."""

    context: Context
    kind: ModelKind
    texts: CalibrationTexts
    start: RoundInput
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
            length = self.kind.mean_length if settings.length is None else None
        keys = [stage.key for stage in self.timed]
        return [self.scored.key, self.keep, settings.model_dump(), length, *self._trial_key, *keys]

    def write(self, folder: Path, *, whole: bool) -> None:
        """`plan.json`, and what was found on the way to it: predictions, divergences.

        Args:
            whole: Write the plan as one of the dense model, not of what this round starts from.
        """
        allocated = self._allocated(self.keep)
        plan = self.start.whole(allocated.plan) if whole else allocated.plan
        (folder / PLAN).write_text(json.dumps(plan.to_json(), indent=1) + "\n")
        (folder / BUDGET).write_text(
            json.dumps(metrics_to_json(allocated.metrics), indent=1) + "\n"
        )
        (folder / PLAN_KEY).write_text(key_of(plan.to_json()) + "\n")

    def assistant(self) -> Plan:
        """The plan of a teacher between the dense model and the pruned one: found in the same way, at
        the geometric mean of the budget and the whole, before any rearrangement."""
        return self._allocated(assistant_budget(self.keep, 1.0), rearrange=False).plan

    @cached_property
    def timed(self) -> tuple[Stage, ...]:
        """The table that a budget in milliseconds needs."""
        settings, family = timing_of(self.context.recipe.allocate), self.start.family
        if settings is None:
            return ()
        encoder = family.network(self.start.model)
        assert isinstance(encoder, Encoder), family
        return (time_sublayers.timed(self.context, settings, self.start.dense, encoder),)

    @property
    def _trial_key(self) -> list[Any]:
        """The repair and the text too, where plans are tried out with them."""
        recipe = self.context.recipe
        if not isinstance(recipe.allocate, Curves) or len(recipe.allocate.candidates) == 1:
            return []
        repair = trial_compensation(recipe.compensate).model_dump()
        return [repair, windows_key(self.texts.trials), self.texts.batch]

    def _allocated(self, keep: float, *, rearrange: bool = True) -> Allocated:
        settings, sites = self.context.recipe.allocate, self.start.sites
        swaps = rearrange and isinstance(settings, Search | LatencyBudget) and settings.rearrange
        return allocate(
            read_site_scores(self.scored, sites),
            settings,
            keep,
            self._cost_basis,
            gradients=self._gradients(sites) if swaps else None,
            divergence=self._divergence,
            expect=self.context.observer.expect,
        )

    @property
    def _cost_basis(self) -> CostBasis:
        start = self.start
        forward = ForwardPass(
            int(start.model.config.hidden_size), self.kind.mean_length, start.family.causal
        )
        measured = time_sublayers.read(self.timed[0]) if self.timed else None
        return CostBasis(start.family.sites(start.dense.model), forward, measured)

    def _divergence(self, plan: Plan) -> Metric:
        """Of the model that a plan leaves, its weights refitted at once, from the dense one."""
        repair = trial_compensation(self.context.recipe.compensate)
        small = apply.one_shot(
            self.start.model, self.start.family, plan, repair, self.calibrated.read
        )
        self.context.observer.advance(1)
        return self._dense_logits.divergence(small)

    @cached_property
    def _dense_logits(self) -> DenseLogits:
        return self.kind.dense_logits(self.start.dense.model, self.texts)

    def _gradients(self, sites: tuple[Site, ...]) -> dict[str, Float[Tensor, "rows units"]]:
        gradients = {site.name: self.calibrated.unit_gradients(site) for site in sites}
        return {name: rows for name, rows in gradients.items() if rows is not None}


def trial_compensation(repair: Repair) -> ClosedForm:
    """How weights are refitted where a plan is only tried out, or another round follows."""
    if isinstance(repair, ClosedForm):
        return repair.model_copy(update={"order": "one_shot", "token_stride": 1, "producers": None})
    return ClosedForm(affine=True, order="one_shot")


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
    except (OSError, ValueError, RecursionError) as error:
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
