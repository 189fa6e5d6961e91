"""The stages from a dense model to a smaller checkpoint on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from numprune_export import calibrate, prune, statistics_folder
from numprune_export.checkpoint.proof import prove_reload
from numprune_export.checkpoint.save import save
from numprune_export.compensate.none import Nothing
from numprune_export.corpus import Windows
from numprune_export.distribution import installed_version
from numprune_export.family import Family
from numprune_export.fisher.tuning import tune
from numprune_export.fisher.tuning_methods import Refit, ScalarTuning
from numprune_export.metric import Metrics
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.planning import SCORES, Planning, read_budget, read_plan
from numprune_export.pipeline.subject import Subject
from numprune_export.plan import Plan
from numprune_export.run_folder import Stage, key_of, require_space


@dataclass(frozen=True)
class Pruned:
    """The smaller checkpoint, the plan it came from, and the stages that made it."""

    checkpoint: Stage
    plan: Plan
    stages: tuple[Stage, ...]
    budget: Metrics
    """What a budget in milliseconds was and what was predicted, `budget.*`; empty for other budgets."""


def pruned_checkpoint(context: Context, subject: Subject, dense: Dense) -> Pruned:
    """Calibrate, score, allocate, compensate and rewrite; each a stage of its own."""
    calibrated = _calibrate(context, subject, dense)
    scored = _score(context, dense, calibrated)
    planning = Planning(context, subject, dense, calibrated, scored)
    allocated = planning.stage()
    plan = read_plan(allocated.folder)
    repaired = partial(_compensated, context, subject, dense, plan, calibrated, planning)
    checkpoint = _prune(context, subject, dense, allocated, plan, repaired)
    stages = (calibrated, scored, *planning.timed, allocated, checkpoint)
    return Pruned(checkpoint, plan, stages, read_budget(allocated.folder))


def windows_key(windows: Windows) -> str:
    """Hash of the token windows themselves: the calibration hash of a checkpoint."""
    return key_of(windows.tokens.tolist(), windows.lengths.tolist())


def _calibrate(context: Context, subject: Subject, dense: Dense) -> Stage:
    recipe, windows = context.recipe, subject.calibration

    def make(folder: Path) -> None:
        model, family = dense.model, dense.loaded.family
        sites = family.sites(model)
        size = sum(one.numel() * one.element_size() for one in model.parameters())
        artifacts = 2 * len(recipe.targets)
        require_space(
            context.folder.path, statistics_folder.size_bytes(sites) + (1 + artifacts) * size
        )
        batch, tick = subject.calibration_batch, context.observer.advance
        context.observer.expect(len(family.block_list(model)) * len(windows.tokens))
        for block, found in enumerate(calibrate.collect(model, family, windows, batch, tick)):
            statistics_folder.write_block(folder, block, found)
        statistics_folder.write_gradients(folder, subject.gradients(model, context.observer))

    inputs = [
        dense.key, windows_key(windows), subject.calibration_batch, subject.calibration_key
    ]  # fmt: skip
    return context.stage("calibrate", "statistics", inputs, make)


def _score(context: Context, dense: Dense, calibrated: Stage) -> Stage:
    recipe = context.recipe

    def make(folder: Path) -> None:
        model, family = dense.model, dense.loaded.family
        blocks, sites, scores = family.block_list(model), family.sites(model), {}
        context.observer.expect(len(sites))
        for index, site in enumerate(sites):
            generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + index)
            scores[site.name] = recipe.score(
                blocks[site.block].get_submodule(site.consumer).weight.detach(),  # type: ignore[operator]
                statistics_folder.read_site(calibrated.folder, site),
                keep=recipe.keep,
                generator=generator,
            )
            context.observer.advance(1)
        save_file(scores, folder / SCORES)

    inputs = [calibrated.key, recipe.score.model_dump(), recipe.keep, recipe.seed]
    return context.stage("score", "scores", inputs, make)


def _prune(
    context: Context,
    subject: Subject,
    dense: Dense,
    allocated: Stage,
    plan: Plan,
    repaired: Callable[[], Any],
) -> Stage:
    recipe = context.recipe

    def make(folder: Path) -> None:
        small = repaired()
        save(
            small,
            dense.loaded.tokenizer,
            dense.loaded.family,
            folder,
            _record(context, dense, subject.calibration),
        )
        proof = subject.proof()
        prove_reload(folder, small, proof.tokens, real=proof.real, types=proof.types)

    # The plan itself too: its file may have been edited since it was made.
    inputs = [
        allocated.key,
        plan.to_json(),
        recipe.compensate.model_dump(),
        subject.calibration_batch,
    ]
    return context.stage("prune", "model", inputs, make)


def _compensated(
    context: Context,
    subject: Subject,
    dense: Dense,
    plan: Plan,
    calibrated: Stage,
    planning: Planning,
) -> Any:
    recipe, model, family = context.recipe, dense.model, dense.loaded.family
    repair = recipe.compensate
    if isinstance(repair, ScalarTuning | Refit):
        teacher = dense.model
        if repair.teacher == "assistant":
            teacher = _cut_only(dense, planning.assistant(), calibrated)
        return _tuned(context, subject, _cut_only(dense, plan, calibrated), teacher, family, repair)
    if repair.order == "sequential":
        windows = subject.calibration
        batch, tick = subject.calibration_batch, context.observer.advance
        context.observer.expect(len(family.block_list(model)) * len(windows.tokens))
        return prune.sequential(model, family, plan, repair, windows, batch, tick)

    lookup = partial(statistics_folder.read_site, calibrated.folder)
    return prune.one_shot(model, family, plan, repair, lookup)


def _cut_only(dense: Dense, plan: Plan, calibrated: Stage) -> Any:
    """The dense model really smaller, not repaired."""
    lookup = partial(statistics_folder.read_site, calibrated.folder)
    return prune.one_shot(dense.model, dense.loaded.family, plan, Nothing(), lookup)


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


def _record(context: Context, dense: Dense, windows: Windows) -> Mapping[str, Any]:
    """What a pruned checkpoint says of its own making."""
    recipe = context.recipe
    return {
        "method": {
            "keep": recipe.keep,
            "score": recipe.score.model_dump(),
            "allocate": recipe.allocate.model_dump(),
            "compensate": recipe.compensate.model_dump(),
        },
        "calibration_sha256": windows_key(windows),
        "parent": {
            "reference": dense.source.reference,
            "revision": dense.source.revision,
            "sha256": dense.fingerprint,
        },
        "versions": {
            name: installed_version(name) for name in ("numprune-export", "torch", "transformers")
        },
    }
