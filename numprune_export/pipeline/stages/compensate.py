"""The prune stage: apply a plan with compensation, save the checkpoint, prove its reload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from numprune_export.calibration.statistics import Statistics
from numprune_export.core.metric import Metrics
from numprune_export.core.plugins import installed_version
from numprune_export.core.progress import growing, shown
from numprune_export.core.run_folder import MODEL
from numprune_export.core.stage import InParts, Stage, Together
from numprune_export.models.checkpoint.carried_proof import CarriedProof
from numprune_export.models.checkpoint.reload_proof import proof_steps, prove_reload
from numprune_export.models.checkpoint.save import save
from numprune_export.models.checkpoint.shards import BlockShards
from numprune_export.models.device import CPU, on
from numprune_export.models.family import Family
from numprune_export.models.residency import replace_skeleton, resident, source_of
from numprune_export.numerics.matmul_precision import matmul_precision
from numprune_export.numerics.ranks import here, sharing
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.kinds.calibration_texts import CalibrationTexts, windows_key
from numprune_export.pipeline.kinds.kind import ModelKind
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.stages.calibrate import Calibrated
from numprune_export.pruning import apply
from numprune_export.pruning.compensate.distill_layers import tune
from numprune_export.pruning.compensate.mask_tuning import ScalarTuning
from numprune_export.pruning.compensate.none import Nothing
from numprune_export.pruning.compensate.teacher_refit import Refit
from numprune_export.pruning.linear_work import work_of
from numprune_export.pruning.plan import Plan

REPAIRED = "repaired"
"""Folder of the checkpoint that a recovery starts from."""


@dataclass(frozen=True)
class CompensationInput:
    """The plan and the inputs of its compensation."""

    plan: Plan
    """For the dense model."""
    plan_key: str
    """Key of its allocate stage."""
    texts: CalibrationTexts
    calibrated: Calibrated
    """Of the dense model; statistics are of the compensation texts if they are needed."""
    assistant: Callable[[], Plan]
    """Plan of a teacher between the dense and the pruned model."""
    edited: bool
    """Whether a plan was edited by hand."""


def prune(context: Context, kind: ModelKind, dense: Dense, given: CompensationInput) -> Stage:
    """Prune, compensate and save the model; returns the stage of the checkpoint."""
    recipe, texts = context.recipe, given.texts

    def make(folder: Path) -> None:
        proof, observer = kind.proof(texts), context.observer
        record, family = _record(context, dense, given), dense.family
        shards, expected = None, None
        with matmul_precision(recipe.matmul_precision, dense.device):
            if source_of(dense.placed) is None:
                pruned = on(compensated(context, dense, given), CPU)
            else:
                carried = CarriedProof(dense.streamed_on(CPU), family, proof.tokens)
                shards = BlockShards(folder, len(family.block_list(dense.placed)), family.blocks)
                pruned = _in_shards(context, dense, given, _Written(shards, carried))
                expected = carried.logits()
        if not sharing().first:
            return
        with shown(observer, "prune.save"), growing(folder, _resident_bytes(pruned), observer):
            save(pruned, dense.tokenizer, family, folder, record, shards=shards)
        with shown(observer, "prune.reload"):
            observer.expect(proof_steps(pruned))
            prove_reload(
                folder, pruned, proof.tokens,
                real=proof.real, types=proof.types, expected=expected, tick=observer.advance,
            )  # fmt: skip

    # The plan in addition to its key: the file may have been edited.
    inputs = [
        given.plan_key,
        windows_key(texts.compensation),
        given.plan.to_json(),
        recipe.compensate.model_dump(),
        recipe.matmul_precision,
        texts.batch,
        *dense.computed_on,
    ]
    # Of several processes, only the first has what an interrupted run has written.
    in_parts = dense.placement.streamed and here().world == 1
    work = InParts(make) if in_parts else make
    place = MODEL if recipe.recover is None else REPAIRED
    return context.stage("prune", place, inputs, Together(work))


def _resident_bytes(model: nn.Module) -> int:
    """Of the weights that are in memory: blocks of a streamed model are not."""
    weights = (weight for weight in model.parameters() if not weight.is_meta)
    return sum(weight.numel() * weight.element_size() for weight in weights)


@dataclass(frozen=True)
class _Written(apply.Journal):
    """Writes pruned blocks as they are finished, and runs the reload proof's tokens through them."""

    shards: BlockShards
    proof: CarriedProof
    restored: set[int] = field(default_factory=set)

    def known(self, index: int) -> dict[str, Tensor] | None:
        """See Journal.known: what an interrupted run has written."""
        tensors = self.shards.read(index)
        if tensors is not None:
            self.restored.add(index)
        return tensors

    def finished(self, block: nn.Module, index: int) -> None:
        """See Journal.finished."""
        if sharing().first and index not in self.restored:
            self.shards.add(block, index)
        self.proof.add(block, index)


def _in_shards(context: Context, dense: Dense, given: CompensationInput, written: _Written) -> Any:
    """The skeleton of a streamed model, whose pruned blocks are written as they are finished."""
    family, method = dense.family, context.recipe.compensate
    assert not isinstance(method, ScalarTuning | Refit)  # of encoders, which are not streamed
    small = compensated(context, dense, given, written)
    if method.order == "sequential":
        return small
    for index in range(len(family.block_list(small))):
        with resident(small, family, index) as block:
            written.finished(block, index)
            replace_skeleton(small, family, index, block)
    return small


def compensated(
    context: Context,
    dense: Dense,
    given: CompensationInput,
    journal: apply.Journal | None = None,
) -> Any:
    """A copy of the dense model, pruned by the plan and compensated.

    Args:
        journal: Of `FrontToBack`; the other orders do not use it.
    """
    model, family, texts = dense.placed, dense.family, given.texts
    method, plan = context.recipe.compensate, given.plan
    if isinstance(method, ScalarTuning | Refit):
        teacher = dense.placed
        if method.teacher == "assistant":
            teacher = _without_compensation(dense, given.assistant())
        return _distilled(context, texts, _without_compensation(dense, plan), teacher, family)
    if method.order == "sequential":
        order = apply.FrontToBack(family, plan, method, texts.compensation, texts.batch)
        context.observer.expect(order.steps(model))
        return order.prune(model, context.observer.advance, journal)

    context.observer.expect(sum(work_of(site) for site in plan.sites if plan.removed(site)))
    statistics = Statistics.of_nothing if isinstance(method, Nothing) else given.calibrated.read
    return apply.one_shot(
        model, family, plan, method, statistics,
        lambda site: context.observer.advance(work_of(site)),
    )  # fmt: skip


def _without_compensation(dense: Dense, plan: Plan) -> Any:
    """The dense model pruned by the plan, without compensation."""
    return apply.one_shot(dense.placed, dense.family, plan, Nothing(), Statistics.of_nothing)


def _distilled(
    context: Context, texts: CalibrationTexts, student: Any, teacher: Any, family: Family
) -> Any:
    method, windows = context.recipe.compensate, texts.compensation
    assert isinstance(method, ScalarTuning | Refit)
    context.observer.expect(len(family.block_list(student)) * len(windows.tokens))
    tuned, layers = tune(
        student, teacher, family, windows, method,
        batch=texts.batch, tick=context.observer.advance,
    )  # fmt: skip
    for layer in layers:
        change = f"{layer.error_before:.4g} to {layer.error_after:.4g}"
        context.folder.log(f"tune {layer.site}: {layer.outcome}, relative error {change}")
    return tuned


def _record(context: Context, dense: Dense, given: CompensationInput) -> Mapping[str, Any]:
    """Provenance record in config.json of a pruned checkpoint."""
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
    """The pruned checkpoint, its plan, and its stages."""

    checkpoint: Stage
    plan: Plan
    stages: tuple[Stage, ...]
    scored: Stage
    """Scores of the dense model."""
    budget: Metrics
    """Metrics of the allocation: `budget.*` of latency budgets, `allocation.*` of compared plans."""
    warnings: tuple[str, ...]
    """Warnings about the plan."""
    repaired: Stage | None = None
    """The checkpoint before its recovery; None: there was none."""
