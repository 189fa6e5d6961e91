"""The stages from a dense model to a smaller checkpoint on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numprune_export.core.metric import Metrics
from numprune_export.core.plugins import installed_version
from numprune_export.core.progress import shown
from numprune_export.core.run_folder import Stage
from numprune_export.models.checkpoint.reload_proof import proof_steps, prove_reload
from numprune_export.models.checkpoint.save import save
from numprune_export.models.family import Family
from numprune_export.numerics.matmul_precision import products
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.kinds.kind import Subject, windows_key
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.rounds import Round
from numprune_export.pipeline.stages.allocate import read_budget
from numprune_export.pipeline.stages.calibrated import Calibrated, repairs_at_once
from numprune_export.pipeline.stages.generate_text import Extended, extended
from numprune_export.pipeline.stages.plan_warnings import plan_warnings
from numprune_export.pipeline.start import Start
from numprune_export.pruning import apply
from numprune_export.pruning.compensate.distill_layers import tune
from numprune_export.pruning.compensate.none import Nothing
from numprune_export.pruning.compensate.teacher_methods import Refit, ScalarTuning
from numprune_export.pruning.plan import Plan


@dataclass(frozen=True)
class Pruned:
    """The smaller checkpoint, the plan it came from, and the stages that made it."""

    checkpoint: Stage
    plan: Plan
    stages: tuple[Stage, ...]
    scored: Stage
    """Scores of the dense model."""
    budget: Metrics
    """What was found on the way to the plan: `budget.*` of one in milliseconds, `allocation.*` of plans
    that were tried out."""
    warnings: tuple[str, ...]
    """What a reader should know of the plan."""


@dataclass(frozen=True)
class Planned:
    """All rounds up to the plan, and what the repair after them reads."""

    rounds: tuple[Round, ...]
    subject: Subject
    """Its calibration text is that of the repair."""
    calibrated: Calibrated
    """Of the dense model; moments are of the repair's text where the repair reads any."""
    stages: tuple[Stage, ...]

    @property
    def plan(self) -> Plan:
        return self.rounds[-1].plan

    @property
    def edited(self) -> bool:
        """Whether somebody changed a round's plan since it was made."""
        return any(one.edited for one in self.rounds)


def pruned_checkpoint(context: Context, subject: Subject, dense: Dense) -> Pruned:
    """Calibrate, score and allocate, round by round; then compensate and rewrite."""
    found = planned(context, subject, dense)
    warnings = tuple(plan_warnings(context.recipe, found.plan, edited=found.edited))
    for warning in warnings:
        context.folder.log(f"warning: {warning}")
    checkpoint = _prune(context, dense, found)
    last, scored = found.rounds[-1], found.rounds[0].scored
    budget = read_budget(last.allocated.folder)
    return Pruned(checkpoint, found.plan, (*found.stages, checkpoint), scored, budget, warnings)


def planned(context: Context, subject: Subject, dense: Dense) -> Planned:
    """Every stage before the repair."""
    recipe = context.recipe
    texts = extended(context, subject, dense)
    rounds = tuple(rounds_of(context, texts, dense))
    stages = (*texts.stages, *(stage for one in rounds for stage in one.stages))
    calibrated = rounds[0].calibrated
    if texts.repair is not texts.moments and repairs_at_once(recipe):
        calibrated = rounds[0].moments_on(texts.repair.calibration)
        stages += calibrated.stages
    return Planned(rounds, texts.repair, calibrated, stages)


def rounds_of(context: Context, texts: Extended, dense: Dense) -> Iterator[Round]:
    """Each starts from what the one before has left, and keeps the same fraction of it."""
    recipe, start = context.recipe, Start(dense, dense.key)
    for number in range(1, recipe.rounds + 1):
        keep, last = recipe.keep ** (number / recipe.rounds), number == recipe.rounds
        left = recipe.keep if last else keep
        one = Round(
            context, texts.moments, texts.gradients, texts.trials, start, left, last, number
        )
        yield one
        if not last:
            start = one.rest()


def _prune(context: Context, dense: Dense, found: Planned) -> Stage:
    recipe, subject = context.recipe, found.subject

    def make(folder: Path) -> None:
        with products(recipe.products):
            small = compensated(context, dense, found)
        save(
            small,
            dense.loaded.tokenizer,
            dense.family,
            folder,
            _record(context, dense, found),
        )
        proof, watching = subject.proof(), context.observer
        with shown(watching, "prune.reload"):
            watching.expect(proof_steps(small))
            prove_reload(
                folder, small, proof.tokens,
                real=proof.real, types=proof.types, tick=watching.advance,
            )  # fmt: skip

    # The plan itself too: its file may have been edited since it was made.
    inputs = [
        found.rounds[-1].allocated.key,
        windows_key(subject.calibration),
        found.plan.to_json(),
        recipe.compensate.model_dump(),
        recipe.products,
        subject.calibration_batch,
    ]
    return context.stage("prune", "model", inputs, make)


def compensated(context: Context, dense: Dense, found: Planned) -> Any:
    """The dense model with what the plan keeps, repaired."""
    model, family, subject = dense.model, dense.family, found.subject
    repair, plan, calibrated = context.recipe.compensate, found.plan, found.calibrated
    if isinstance(repair, ScalarTuning | Refit):
        teacher = dense.model
        if repair.teacher == "assistant":
            teacher = _cut_only(dense, found.rounds[0].planning.assistant(), calibrated)
        return _tuned(context, subject, _cut_only(dense, plan, calibrated), teacher, family, repair)
    if repair.order == "sequential":
        windows = subject.calibration
        batch, tick = subject.calibration_batch, context.observer.advance
        context.observer.expect(len(family.block_list(model)) * len(windows.tokens))
        return apply.sequential(model, family, plan, repair, windows, batch, tick)

    return apply.one_shot(model, family, plan, repair, calibrated.read)


def _cut_only(dense: Dense, plan: Plan, calibrated: Calibrated) -> Any:
    """The dense model really smaller, not repaired."""
    return apply.one_shot(dense.model, dense.family, plan, Nothing(), calibrated.read)


def _tuned(
    context: Context,
    subject: Subject,
    student: Any,
    teacher: Any,
    family: Family,
    method: ScalarTuning | Refit,
) -> Any:
    windows = subject.calibration
    context.observer.expect(len(family.block_list(student)) * len(windows.tokens))
    small, record = tune(
        student, teacher, family, windows, method,
        batch=subject.calibration_batch, tick=context.observer.advance,
    )  # fmt: skip
    for one in record:
        told = f"{one.error_before:.4g} to {one.error_after:.4g}"
        context.folder.log(f"tune {one.site}: {one.outcome}, relative error {told}")
    return small


def _record(context: Context, dense: Dense, found: Planned) -> Mapping[str, Any]:
    """What a pruned checkpoint says of its own making."""
    recipe = context.recipe
    return {
        "method": {
            "keep": recipe.keep,
            "query_heads": recipe.query_heads,
            "rounds": recipe.rounds,
            "self_calibration": recipe.self_calibration.model_dump(),
            "score": recipe.score.model_dump(),
            "allocate": recipe.allocate.model_dump(),
            "compensate": recipe.compensate.model_dump(),
        },
        "plan": {"keep": found.plan.keep, "edited": found.edited},
        "calibration_sha256": windows_key(found.subject.calibration),
        "parent": {
            "reference": dense.source.reference,
            "revision": dense.source.revision,
            "sha256": dense.fingerprint,
        },
        "versions": {
            name: installed_version(name) for name in ("numprune-export", "torch", "transformers")
        },
    }
