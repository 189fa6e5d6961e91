"""The allocate stage: scores to a plan."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from numprune_export.core.errors import InputError
from numprune_export.core.json_text import loads
from numprune_export.core.metric import Metric, Metrics, metrics_from_json, metrics_to_json
from numprune_export.core.stage import Stage, key_of
from numprune_export.export.encoder import Encoder
from numprune_export.measure.quality.divergence import DenseLogits
from numprune_export.models.device import CPU, on
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
"""File with the hash of the plan as allocated; an edited plan has another hash."""
BUDGET = "budget.json"


@dataclass(frozen=True)
class Planning:
    """Inputs of the allocate stage of one round."""

    context: Context
    kind: ModelKind
    texts: CalibrationTexts
    start: RoundInput
    calibrated: Calibrated
    scored: Stage
    keep: float
    """Fraction of the dense model to keep."""

    @property
    def inputs(self) -> list[Any]:
        """Dependencies of the plan, JSON-able."""
        settings = self.context.recipe.allocate
        length = None
        if isinstance(settings, Search | Curves) and settings.cost == "macs":
            length = self.kind.mean_length if settings.length is None else None
        keys = [stage.key for stage in self.timed]
        return [self.scored.key, self.keep, settings.model_dump(), length, *self._trial_key, *keys]

    def write(self, folder: Path, *, whole: bool) -> None:
        """Write `plan.json`, and the metrics of the allocation: predictions, divergences.

        Args:
            whole: Write the plan for the dense model instead of the starting model of this round.
        """
        allocated = self._allocated(self.keep)
        plan = self.start.whole(allocated.plan) if whole else allocated.plan
        (folder / PLAN).write_text(json.dumps(plan.to_json(), indent=1) + "\n")
        (folder / BUDGET).write_text(
            json.dumps(metrics_to_json(allocated.metrics), indent=1) + "\n"
        )
        (folder / PLAN_KEY).write_text(key_of(plan.to_json()) + "\n")

    def assistant(self) -> Plan:
        """The plan of a teacher between the dense and the pruned model, without rearrangement.

        Its budget is the geometric mean of `keep` and 1.
        """
        return self._allocated(assistant_budget(self.keep, 1.0), rearrange=False).plan

    @cached_property
    def timed(self) -> tuple[Stage, ...]:
        """The stage of the latency table, if the recipe has a latency budget."""
        settings, family = timing_of(self.context.recipe.allocate), self.start.family
        if settings is None:
            return ()
        encoder = family.network(on(self.start.model, CPU))
        assert isinstance(encoder, Encoder), family
        return (time_sublayers.timed(self.context, settings, self.start.dense, encoder),)

    @property
    def _trial_key(self) -> list[Any]:
        """Compensation and texts of trials, if plans are compared by trials."""
        recipe = self.context.recipe
        if not isinstance(recipe.allocate, Curves) or len(recipe.allocate.candidates) == 1:
            return []
        compensation = trial_compensation(recipe.compensate).model_dump()
        return [compensation, windows_key(self.texts.trials), self.texts.batch]

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
        return CostBasis(start.family.sites(start.dense.placed), forward, measured)

    def _divergence(self, plan: Plan) -> Metric:
        """KL divergence of the model pruned by a plan, with one-shot compensation."""
        compensation = trial_compensation(self.context.recipe.compensate)
        pruned = apply.one_shot(
            self.start.model, self.start.family, plan, compensation, self.calibrated.read
        )
        divergence = self._dense_logits.divergence(pruned)
        self.context.observer.advance(1)
        return divergence

    @cached_property
    def _dense_logits(self) -> DenseLogits:
        self.context.observer.expect(1)
        logits = self.kind.dense_logits(self.start.dense.placed, self.texts)
        self.context.observer.advance(1)
        return logits

    def _gradients(self, sites: tuple[Site, ...]) -> dict[str, Float[Tensor, "rows units"]]:
        gradients = {site.name: self.calibrated.unit_gradients(site) for site in sites}
        return {name: rows for name, rows in gradients.items() if rows is not None}


def trial_compensation(repair: Repair) -> ClosedForm:
    """Compensation of trials and of all rounds but the last."""
    if isinstance(repair, ClosedForm):
        return repair.model_copy(update={"order": "one_shot", "token_stride": 1, "producers": None})
    return ClosedForm(affine=True, order="one_shot")


def read_budget(folder: Path) -> Metrics:
    """`budget.*` of an allocate stage."""
    return metrics_from_json(json.loads((folder / BUDGET).read_text()))


def read_plan(folder: Path) -> Plan:
    """Read the current plan of an allocate stage, which may have been edited.

    Raises:
        InputError: the file is not a valid plan.
    """
    path = folder / PLAN
    try:
        content = loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"`{path}` is not readable: {error}",
            hint=f"delete the folder `{folder}` to recompute the plan",
        ) from None
    return Plan.from_json(content)


def was_edited(folder: Path, plan: Plan) -> bool:
    """Whether a plan differs from the allocated one; False if an older version wrote no hash."""
    path = folder / PLAN_KEY
    return path.is_file() and path.read_text().strip() != key_of(plan.to_json())
