"""The validate stage: sizes, perplexity from the dense model to each artifact, and their parity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from numprune_export.corpus import Windows
from numprune_export.metric import Metrics
from numprune_export.pipeline import agreement
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.exporting import Exported
from numprune_export.pipeline.measured import (
    facts_of,
    keys,
    open_artifact,
    reference_device,
    runnable,
    write_metrics,
)
from numprune_export.pipeline.models import Models
from numprune_export.pipeline.sizes import size_metrics
from numprune_export.run_folder import Stage, key_of
from numprune_export.validate.perplexity import perplexity
from numprune_export.validate.precision import computing_in
from numprune_export.validate.reference import TorchRunner


def validate(
    context: Context, models: Models, exported: Sequence[Exported], windows: Windows
) -> Stage:
    """Everything about quality and exactness that this machine can measure.

    Raises:
        ParityError: an artifact differs from PyTorch by more than the recipe's tolerance.
    """
    recipe = context.recipe
    rows = agreement.parity_rows(windows, recipe.parity.steps)
    device = reference_device(exported)

    def make(folder: Path) -> None:
        here = runnable(exported)
        context.observer.expect((3 + len(here)) * len(windows.tokens))
        metrics = size_metrics(models, exported)
        metrics |= _torch_perplexities(context, models, windows, device)
        for one in here:
            metrics |= _artifact_perplexity(context, one, windows)
        for one in exported:
            metrics |= agreement.agree(context, models, one, rows, device)
        write_metrics(folder, metrics)

    inputs = [
        *keys(models, exported),
        key_of(windows.tokens.tolist()),
        recipe.evaluation.batch,
        recipe.parity.model_dump(),
        device,
    ]
    return context.stage("validate", "validate", inputs, make)


def _torch_perplexities(context: Context, models: Models, windows: Windows, device: str) -> Metrics:
    batch, tick = context.recipe.evaluation.batch, context.observer.advance
    under = {"runtime": f"torch {torch.__version__}", "device": device, **_text(context, windows)}
    found: Metrics = {}
    for name in ("dense", "masked", "pruned"):
        model = models.masked() if name == "masked" else getattr(models, name)
        with computing_in(model, device=device) as here, TorchRunner(here, threads=None) as runner:
            found[f"quality.perplexity.{name}"] = perplexity(
                runner, windows.tokens, batch=batch, conditions=under, progress=tick
            )
    return found


def _artifact_perplexity(context: Context, exported: Exported, windows: Windows) -> Metrics:
    batch, tick = context.recipe.evaluation.batch, context.observer.advance
    under = {**facts_of(exported), **_text(context, windows)}
    with open_artifact(exported, "pruned", windows.tokens.shape[1]) as runner:
        found = perplexity(runner, windows.tokens, batch=batch, conditions=under, progress=tick)
    return {f"quality.perplexity.{exported.target.name}": found}


def _text(context: Context, windows: Windows) -> dict[str, Any]:
    count, length = windows.tokens.shape
    return {"windows": count, "tokens_per_window": length, "batch": context.recipe.evaluation.batch}
