"""The stage in which a language model generates calibration text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from numprune_export.calibration import generated_text
from numprune_export.calibration import store as statistics_store
from numprune_export.calibration.generated_text_settings import GeneratedText
from numprune_export.calibration.prompts import prompts
from numprune_export.core.stage import Stage
from numprune_export.data.corpus import Windows
from numprune_export.numerics.matmul_precision import matmul_precision
from numprune_export.pipeline.additional_text import rows_at_once
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
    if texts.written is not None:
        return _with(texts, texts.written, settings), ()
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
        with matmul_precision(recipe.matmul_precision, dense.device), dense.whole() as model:
            rows = rows_at_once(recipe, dense, length)
            positions = length - generated_text.shared(prompt_tokens)
            context.observer.expect(generated_text.steps_of(settings, positions, rows))
            written = generated_text.write(
                model, prompt_tokens, settings,
                tokens=tokens, seed=seed, rows=rows, tick=context.observer.advance,
            )  # fmt: skip
        statistics_store.write_windows(folder, written)

    inputs = [
        dense.key,
        settings.model_dump(exclude={"texts", "for_gradients", "for_trials"}),
        tokens,
        seed,
        recipe.matmul_precision,
    ]
    inputs += [torch.__version__, prompt_tokens.tolist(), *dense.computed_on]
    stage = context.stage("write-text", "self_text", inputs, make, shared=True)
    written = statistics_store.read_windows(stage.folder)
    return _with(texts, written, settings), (stage,)


def _with(texts: CalibrationTexts, written: Windows, settings: GeneratedText) -> CalibrationTexts:
    """The recipe's texts combined with windows of the model's."""
    corpus, sequences = texts.moments, settings.learning
    return replace(
        texts,
        gradients=generated_text.among(corpus, written.first(sequences)) if sequences else corpus,
        trials=written if settings.for_trials else corpus,
        compensation=generated_text.among(corpus, written),
    )
