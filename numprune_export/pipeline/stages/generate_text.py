"""The stage in which a language model generates calibration text."""

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
    """The recipe's texts combined with generated text, and the stage that generated it."""
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
    prompt_tokens = chosen.tokens
    if chosen.refusal is not None:
        context.folder.log(f"write-text: {chosen.refusal}")
        dense.warnings.append(
            f"generated texts start with tokens of the vocabulary: {chosen.refusal}"
        )
    prompt_kind = "one token" if prompt_tokens.shape[1] == 1 else "a chat prompt"
    context.folder.log(
        f"write-text: a text starts with {prompt_kind}, {len(prompt_tokens)} different prompts"
    )

    def make(folder: Path) -> None:
        batches = -(-settings.sequences // generated_text.WINDOWS)
        context.observer.expect(batches * (length - generated_text.shared(prompt_tokens)))
        with matmul_precision(recipe.matmul_precision, dense.device), dense.whole() as model:
            written = generated_text.write(
                model, prompt_tokens, settings,
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
    inputs += [torch.__version__, prompt_tokens.tolist(), *dense.computed_on]
    stage = context.stage("write-text", "self_text", inputs, make, shared=True)
    written = statistics_store.read_windows(stage.folder)
    corpus, sequences = texts.moments, settings.learning
    generated = replace(
        texts,
        gradients=generated_text.among(corpus, written.first(sequences)) if sequences else corpus,
        trials=written if settings.for_trials else corpus,
        compensation=generated_text.among(corpus, written),
    )
    return generated, (stage,)
