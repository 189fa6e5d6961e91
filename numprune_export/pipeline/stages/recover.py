"""The recover stage: train the pruned model towards the dense one, save it, prove its reload."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from numprune_export.core.metric import Metric, Metrics
from numprune_export.core.partial_files import PARTIAL
from numprune_export.core.progress import growing, shown
from numprune_export.core.run_folder import MODEL
from numprune_export.core.stage import InParts, Stage
from numprune_export.models.checkpoint.load import load
from numprune_export.models.checkpoint.reload_proof import proof_steps, prove_reload
from numprune_export.models.checkpoint.save import save
from numprune_export.models.checkpoint.weight_files import read_json
from numprune_export.models.device import CPU, on
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.kinds.calibration_texts import windows_key
from numprune_export.pipeline.kinds.kind import ModelKind
from numprune_export.pipeline.models import Dense
from numprune_export.pipeline.stages.compensate import Pruned
from numprune_export.pruning.recover.state import Look
from numprune_export.pruning.recover.training import Recovery


def recover(context: Context, kind: ModelKind, dense: Dense, pruned: Pruned) -> Pruned:
    """The pruned model after its recovery, if the recipe has one; else the same."""
    settings, texts = context.recipe.recover, kind.recovery
    if settings is None:
        return pruned
    assert texts is not None
    observer = context.observer

    def make(folder: Path) -> None:
        state, saved = folder / "training", folder / f".saved{PARTIAL}"
        student = load(pruned.checkpoint.folder)
        dtype = student.dtype
        student = on(student.float(), dense.device)
        recovery = Recovery(student, dense.placed, dense.family, texts, settings)
        observer.expect(recovery.steps)
        state.mkdir(exist_ok=True)
        looks = recovery.run(state, observer.advance)
        for look in looks:
            context.folder.log(f"recover: {_said(look)}")
        trained: Any = on(student.to(dtype), CPU)
        record = dict(read_json(pruned.checkpoint.folder / "config.json")["numprune"])
        record["method"] = {**record["method"], "recover": settings.model_dump()}
        record["recovery"] = [asdict(look) for look in looks]
        proof = kind.proof(kind.texts)
        saved.mkdir()
        with shown(observer, "recover.save"), growing(saved, dense.weight_bytes, observer):
            save(trained, dense.tokenizer, dense.family, saved, record)
        with shown(observer, "recover.reload"):
            observer.expect(proof_steps(trained))
            prove_reload(
                saved, trained, proof.tokens,
                real=proof.real, types=proof.types, tick=observer.advance,
            )  # fmt: skip
        for path in saved.iterdir():  # over files of an attempt that was interrupted here
            path.replace(folder / path.name)
        saved.rmdir()
        shutil.rmtree(state)

    inputs = [
        pruned.checkpoint.key,
        dense.key,
        settings.model_dump(),
        windows_key(texts.trained),
        {name: windows_key(windows) for name, windows in texts.held_out.items()},
        *dense.computed_on,
    ]
    stage = context.stage("recover", MODEL, inputs, InParts(make))
    return replace(
        pruned,
        checkpoint=stage,
        repaired=pruned.checkpoint,
        stages=(*pruned.stages, stage),
        budget=pruned.budget | metrics(stage),
    )


def metrics(stage: Stage) -> Metrics:
    """`recovery.divergence.<source>.before` and `.after`, nats per token on held-out windows."""
    record = read_json(stage.folder / "config.json")["numprune"]
    looks = [Look(**look) for look in record["recovery"]]
    best = min(looks, key=lambda look: look.mean)
    measured: Metrics = {"recovery.steps": Metric(best.step, "steps", 1)}
    for moment, look in (("before", looks[0]), ("after", best)):
        for name, value in look.held_out.items():
            measured[f"recovery.divergence.{name}.{moment}"] = Metric(value, "nats", 1)
    return measured


def _said(look: Look) -> str:
    values = ", ".join(f"{name} {value:.4f}" for name, value in look.held_out.items())
    return f"step {look.step}, {look.seconds:.0f} s: divergence on held-out text {values}"
