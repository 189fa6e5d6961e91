"""The stage in which a language model writes calibration text of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from numprune_export.calibration import generated_text
from numprune_export.calibration import store as statistics_store
from numprune_export.calibration.prompts import text_starts
from numprune_export.core.run_folder import Stage
from numprune_export.numerics.matmul_precision import products
from numprune_export.pipeline.context import Context
from numprune_export.pipeline.kinds.causal_lm import DecoderSubject
from numprune_export.pipeline.kinds.kind import Subject
from numprune_export.pipeline.models import Dense


@dataclass(frozen=True)
class Extended:
    """A subject's calibration windows, and what the model wrote among them where that is read."""

    moments: Subject
    """On these windows activations are seen."""
    gradients: Subject
    """On the first of these gradients are taken."""
    trials: Subject
    """On the first of these plans are tried out: text that a trial's repair has not read, where there is
    any."""
    repair: Subject
    """On these what stays is repaired."""
    stages: tuple[Stage, ...]
    """What wrote."""


def extended(context: Context, subject: Subject, dense: Dense) -> Extended:
    """The subject itself, four times, where the recipe asks for no text of the model's own."""
    recipe, settings = context.recipe, context.recipe.self_calibration
    if not settings.sequences:
        return Extended(subject, subject, subject, subject, ())
    tokenizer = dense.tokenizer
    assert isinstance(subject, DecoderSubject)  # the others refuse such a recipe
    assert tokenizer is not None
    tokens, seed = subject.calibration.tokens.shape[1], recipe.calibration.seed
    length = settings.length(tokens)
    chosen = text_starts(
        tokenizer, settings.starts, settings.requests, settings.asked,
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
        with products(recipe.products):
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
        recipe.products,
    ]
    inputs += [torch.__version__, starts.tolist()]
    stage = context.stage("write-text", "self_text", inputs, make, shared=True)
    written = statistics_store.read_windows(stage.folder)
    own, some = subject.calibration, settings.learning
    learning = generated_text.among(own, written.first(some)) if some else own
    return Extended(
        moments=subject,
        gradients=subject.calibrated_on(learning),
        trials=subject.calibrated_on(written) if settings.for_trials else subject,
        repair=subject.calibrated_on(generated_text.among(own, written)),
        stages=(stage,),
    )
