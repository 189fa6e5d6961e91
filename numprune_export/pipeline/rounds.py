"""Rounds of pruning: calibrate, score and allocate; then compensation of the final plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from numprune_export.core.stage import Stage, key_of
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.kinds.calibration_texts import CalibrationTexts
from numprune_export.pipeline.kinds.kind import ModelKind
from numprune_export.pipeline.models import Dense, RoundInput
from numprune_export.pipeline.stages.allocate import (
    PLAN,
    Planning,
    read_budget,
    read_plan,
    trial_compensation,
    was_edited,
)
from numprune_export.pipeline.stages.calibrate import (
    Calibrated,
    calibrate,
    calibrate_compensation,
    repairs_at_once,
)
from numprune_export.pipeline.stages.compensate import CompensationInput, Pruned, prune
from numprune_export.pipeline.stages.dequantise import dequantised
from numprune_export.pipeline.stages.generate_text import calibration_texts
from numprune_export.pipeline.stages.plan_warnings import plan_warnings
from numprune_export.pipeline.stages.round_context import RoundContext
from numprune_export.pipeline.stages.score import score
from numprune_export.pruning import apply
from numprune_export.pruning.plan import Plan


@dataclass(frozen=True)
class Round:
    """One round: from its starting model to a plan."""

    here: RoundContext
    kind: ModelKind
    texts: CalibrationTexts
    keep: float
    """Fraction of the dense model that remains after this round."""
    last: bool

    @cached_property
    def calibrated(self) -> Calibrated:
        """Statistics and gradients of the starting model, as far as the recipe needs them."""
        return calibrate(self.here, self.texts, self.kind.gradients)

    @cached_property
    def scored(self) -> Stage:
        """See `stages.score`."""
        return score(self.here, self.calibrated)

    @cached_property
    def planning(self) -> Planning:
        return Planning(
            self.here.context,
            self.kind,
            self.texts,
            self.here.start,
            self.calibrated,
            self.scored,
            self.keep,
        )

    @cached_property
    def allocated(self) -> Stage:
        """The stage of the plan, which in the last round is for the dense model."""
        planning = self.planning
        write = partial(planning.write, whole=self.last)
        suffix = "" if self.last else f"-{self.here.number}"
        inputs = [*planning.inputs, self.last]
        return self.here.stage(
            f"allocate{suffix}", f"plan{suffix}", inputs, write, editable=(PLAN,)
        )

    @cached_property
    def plan(self) -> Plan:
        """The plan, for the dense model."""
        return self._own_plan if self.last else self.here.start.whole(self._own_plan)

    @property
    def edited(self) -> bool:
        """Whether the plan file was edited by hand."""
        return was_edited(self.allocated.folder, self._own_plan)

    @cached_property
    def _own_plan(self) -> Plan:
        return read_plan(self.allocated.folder)

    @property
    def stages(self) -> tuple[Stage, ...]:
        return *self.calibrated.stages, self.scored, *self.planning.timed, self.allocated

    def rest(self) -> RoundInput:
        """Input of the next round: the model pruned by this plan, with one-shot compensation."""
        assert not self.last
        start = self.here.start
        compensation = trial_compensation(self.here.context.recipe.compensate)

        def make() -> Any:
            return apply.one_shot(
                start.model, start.family, self._own_plan, compensation, self.calibrated.read
            )

        key = key_of(self.allocated.key, self.plan.to_json(), compensation.model_dump())
        return RoundInput(start.dense, key, self.plan, make)


@dataclass(frozen=True)
class Planned:
    """All rounds, and the input of the compensation after them."""

    rounds: tuple[Round, ...]
    compensation: CompensationInput
    stages: tuple[Stage, ...]

    @property
    def plan(self) -> Plan:
        return self.compensation.plan


def pruned_checkpoint(context: Context, kind: ModelKind, dense: Dense) -> Pruned:
    """Calibrate, score and allocate in rounds; then compensate and save the pruned model."""
    plans = planned(context, kind, dense)
    edited = plans.compensation.edited
    warnings = tuple(plan_warnings(context.recipe, plans.plan, edited=edited))
    for warning in warnings:
        context.folder.log(f"warning: {warning}")
    checkpoint = prune(context, kind, dense, plans.compensation)
    budget = read_budget(plans.rounds[-1].allocated.folder)
    scored = plans.rounds[0].scored
    return Pruned(checkpoint, plans.plan, (*plans.stages, checkpoint), scored, budget, warnings)


def planned(context: Context, kind: ModelKind, dense: Dense) -> Planned:
    """Run all stages before the compensation."""
    unpacked = dequantised(context, dense)
    texts, text_stages = calibration_texts(context, kind.texts, dense)
    rounds = tuple(rounds_of(context, kind, texts, dense))
    first, last = rounds[0], rounds[-1]
    stages = (*unpacked, *text_stages, *(stage for current in rounds for stage in current.stages))
    calibrated = first.calibrated
    if texts.compensation is not texts.moments and repairs_at_once(context.recipe):
        calibrated = calibrate_compensation(first.here, texts)
        stages += calibrated.stages
    edited = any(current.edited for current in rounds)
    compensation = CompensationInput(
        last.plan, last.allocated.key, texts, calibrated, first.planning.assistant, edited
    )
    return Planned(rounds, compensation, stages)


def rounds_of(
    context: Context, kind: ModelKind, texts: CalibrationTexts, dense: Dense
) -> Iterator[Round]:
    """The rounds; each starts from the model of the previous round and keeps the same fraction."""
    recipe, start = context.recipe, RoundInput(dense, dense.key)
    for number in range(1, recipe.rounds + 1):
        last = number == recipe.rounds
        keep = recipe.keep if last else recipe.keep ** (number / recipe.rounds)
        current = Round(RoundContext(context, start, number), kind, texts, keep, last)
        yield current
        if not last:
            start = current.rest()
