"""The stage in which a language model writes calibration text of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from numprune_export.calibration import generated_text
from numprune_export.calibration import store as statistics_store
from numprune_export.calibration.prompts import prompts
from numprune_export.core.run_folder import Stage
from numprune_export.numerics.matmul_precision import matmul_precision
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.kinds.calibration_texts import CalibrationTexts
from numprune_export.pipeline.models import Dense


def calibration_texts(
    context: Context, texts: CalibrationTexts, dense: Dense
) -> tuple[CalibrationTexts, tuple[Stage, ...]]:
    """The recipe's texts, and among them what the model wrote where that is read; and what wrote it."""
    recipe, settings = context.recipe, context.recipe.generated_text
    if not settings.sequences:
        return texts, ()
    tokenizer = dense.tokenizer
    assert dense.family.causal  # other kinds refuse such a recipe
    assert tokenizer is not None
    tokens, seed = texts.moments.tokens.shape[1], recipe.calibration.seed
    length = settings.length(tokens)
    chosen = prompts(
        tokenizer, settings.prompts, settings.requests, settings.asked,
        vocabulary=dense.embeddings, tokens=length,
    )  # fmt: skip
    starts = chosen.tokens
    if chosen.refusal is not None:
        context.folder.log(f"write-text: {chosen.refusal}")
        dense.warnings.append(
            f"self-calibration starts texts with words of the vocabulary: {chosen.refusal}"
        )
    told = "with a word" if starts.shape[1] == 1 else "like a chat"
    context.folder.log(f"write-text: a text starts {told}, one of {len(starts)} starts")

    def make(folder: Path) -> None:
        batches = -(-settings.sequences // generated_text.WINDOWS)
        context.observer.expect(batches * (length - generated_text.shared(starts)))
        with matmul_precision(recipe.matmul_precision):
            written = generated_text.write(
                dense.model, starts, settings,
                tokens=tokens, seed=seed, tick=context.observer.advance,
            )  # fmt: skip
        statistics_store.write_windows(folder, written)

    inputs = [
        dense.key,
        settings.model_dump(exclude={"for_gradients", "for_trials"}),
        tokens,
        seed,
        recipe.matmul_precision,
    ]
    inputs += [torch.__version__, starts.tolist()]
    stage = context.stage("write-text", "self_text", inputs, make, shared=True)
    written = statistics_store.read_windows(stage.folder)
    own, some = texts.moments, settings.learning
    generated = replace(
        texts,
        gradients=generated_text.among(own, written.first(some)) if some else own,
        trials=written if settings.for_trials else own,
        compensation=generated_text.among(own, written),
    )
    return generated, (stage,)
