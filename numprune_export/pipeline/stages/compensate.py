"""The prune stage: a plan carried out and compensated, saved as a checkpoint, its reload proven."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from numprune_export.numerics.matmul_precision import matmul_precision
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.kinds.calibration_texts import CalibrationTexts, windows_key
from numprune_export.pipeline.kinds.kind import ModelKind
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.stages.calibrate import Calibrated
from numprune_export.pruning import apply
from numprune_export.pruning.compensate.distill_layers import tune
from numprune_export.pruning.compensate.none import Nothing
from numprune_export.pruning.compensate.teacher_methods import Refit, ScalarTuning
from numprune_export.pruning.plan import Plan


@dataclass(frozen=True)
class CompensationInput:
    """What the plan is and what its compensation reads."""

    plan: Plan
    """Of the dense model."""
    plan_key: str
    """Of the stage that made it."""
    texts: CalibrationTexts
    calibrated: Calibrated
    """Of the dense model; moments are of the compensation's text where it reads any."""
    assistant: Callable[[], Plan]
    """Plan of a teacher between the dense model and the pruned one."""
    edited: bool
    """Whether somebody changed a plan since it was made."""


def prune(context: Context, kind: ModelKind, dense: Dense, given: CompensationInput) -> Stage:
    """The smaller checkpoint."""
    recipe, texts = context.recipe, given.texts

    def make(folder: Path) -> None:
        with matmul_precision(recipe.matmul_precision):
            small = compensated(context, dense, given)
        record = _record(context, dense, given)
        save(small, dense.loaded.tokenizer, dense.family, folder, record)
        proof, observer = kind.proof(texts), context.observer
        with shown(observer, "prune.reload"):
            observer.expect(proof_steps(small))
            prove_reload(
                folder, small, proof.tokens,
                real=proof.real, types=proof.types, tick=observer.advance,
            )  # fmt: skip

    # The plan itself too: its file may have been edited since it was made.
    inputs = [
        given.plan_key,
        windows_key(texts.compensation),
        given.plan.to_json(),
        recipe.compensate.model_dump(),
        recipe.matmul_precision,
        texts.batch,
    ]
    return context.stage("prune", "model", inputs, make)


def compensated(context: Context, dense: Dense, given: CompensationInput) -> Any:
    """The dense model with what the plan keeps, compensated."""
    model, family, texts = dense.model, dense.family, given.texts
    repair, plan, calibrated = context.recipe.compensate, given.plan, given.calibrated
    if isinstance(repair, ScalarTuning | Refit):
        teacher = dense.model
        if repair.teacher == "assistant":
            teacher = _cut_only(dense, given.assistant(), calibrated)
        return _distilled(context, texts, _cut_only(dense, plan, calibrated), teacher, family)
    if repair.order == "sequential":
        windows, batch, tick = texts.compensation, texts.batch, context.observer.advance
        context.observer.expect(len(family.block_list(model)) * len(windows.tokens))
        return apply.sequential(model, family, plan, repair, windows, batch, tick)

    return apply.one_shot(model, family, plan, repair, calibrated.read)


def _cut_only(dense: Dense, plan: Plan, calibrated: Calibrated) -> Any:
    """The dense model really smaller, not repaired."""
    return apply.one_shot(dense.model, dense.family, plan, Nothing(), calibrated.read)


def _distilled(
    context: Context, texts: CalibrationTexts, student: Any, teacher: Any, family: Family
) -> Any:
    method, windows = context.recipe.compensate, texts.compensation
    assert isinstance(method, ScalarTuning | Refit)
    context.observer.expect(len(family.block_list(student)) * len(windows.tokens))
    small, record = tune(
        student, teacher, family, windows, method,
        batch=texts.batch, tick=context.observer.advance,
    )  # fmt: skip
    for one in record:
        told = f"{one.error_before:.4g} to {one.error_after:.4g}"
        context.folder.log(f"tune {one.site}: {one.outcome}, relative error {told}")
    return small


def _record(context: Context, dense: Dense, given: CompensationInput) -> Mapping[str, Any]:
    """What a pruned checkpoint says of its own making."""
    recipe = context.recipe
    return {
        "method": {
            "keep": recipe.keep,
            "query_heads": recipe.query_heads,
            "rounds": recipe.rounds,
            "generated_text": recipe.generated_text.model_dump(),
            "score": recipe.score.model_dump(),
            "allocate": recipe.allocate.model_dump(),
            "compensate": recipe.compensate.model_dump(),
        },
        "plan": {"keep": given.plan.keep, "edited": given.edited},
        "calibration_sha256": windows_key(given.texts.compensation),
        "parent": {
            "reference": dense.source.reference,
            "revision": dense.source.revision,
            "sha256": dense.fingerprint,
        },
        "versions": {
            name: installed_version(name) for name in ("numprune-export", "torch", "transformers")
        },
    }


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
