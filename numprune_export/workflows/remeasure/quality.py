"""Quality of the models of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from numprune_export.core.errors import IncomparableError, InputError, NumpruneError
from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer
from numprune_export.core.text_file import read_filled
from numprune_export.data.vocabulary import require_embeddings
from numprune_export.export.runner import Tokens
from numprune_export.measure.quality.paired_change import Scores
from numprune_export.measure.quality.perplexity import perplexity
from numprune_export.models.checkpoint.load import skeleton
from numprune_export.pipeline.kinds.kind import ModelKind
from numprune_export.pipeline.stages.validate import quality_metrics, ratio_metrics
from numprune_export.workflows.remeasure.candidate import Candidate, Candidates, tokenizer_of
from numprune_export.workflows.remeasure.finished_run import opened
from numprune_export.workflows.remeasure.inputs import reopen
from numprune_export.workflows.remeasure.task_match import same_task


def measure_of(
    candidates: Candidates, text: Path | None, search: Sequence[Path]
) -> tuple[Measure | None, list[str]]:
    """Quality measure of a comparison, or None and the reason as a note."""
    first = candidates.first
    if text is not None:
        if first.kind == "encoder":
            raise IncomparableError(
                "`--text` is for language models: an encoder's quality needs labelled examples",
                hint="omit `--text`: the labelled examples of the first candidate's run are used",
            )
        return TextPerplexity(windows_of(read_filled(text), first)), []
    if first.run is None:
        data = "labelled examples" if first.kind == "encoder" else "a text (or give `--text`)"
        return None, [f"quality is not measured: `{first.label}` has no run with {data}"]
    try:
        with opened(first.run) as run:
            return _OfRun(reopen(run, search).kind), []
    except IncomparableError:
        raise
    except NumpruneError as error:
        return None, [f"quality is not measured: {error}"]


@dataclass(frozen=True)
class _OfRun:
    """Quality on the evaluation data of a run."""

    kind: ModelKind

    @property
    def longest(self) -> int:
        return int(self.kind.texts.moments.tokens.shape[1])

    @property
    def steps(self) -> int:
        return self.kind.evaluated

    def scores(self, runner: Any, under: Mapping[str, Any], observer: Observer) -> Scores:
        return self.kind.scores(runner, under, observer)


def quality_of(
    candidates: Candidates, measure: Measure, observer: Observer
) -> tuple[Metrics, list[str]]:
    same, notes = _comparable(candidates, measure)
    chosen = {
        key: model
        for (key, model), fits in zip(candidates.models.items(), same, strict=True)
        if fits
    }
    observer.expect(len(chosen) * measure.steps)
    conditions, by_model = candidates.conditions(), dict[str, Scores]()
    for key, model in chosen.items():
        threads = candidates.settings.threads
        with model.open(candidates.device, threads=threads, capacity=measure.longest) as runner:
            by_model[key] = measure.scores(runner, conditions[key], observer)
    metrics = quality_metrics(by_model)
    first, *others = candidates.models
    if first in by_model:  # else its tokens are not those of the others
        rest = {key: by_model[key] for key in others if key in by_model}
        metrics |= ratio_metrics(rest, by_model[first])
    return metrics, notes


def _comparable(candidates: Candidates, measure: Measure) -> tuple[list[bool], list[str]]:
    """Whether each model's quality is comparable; notes explain the others."""
    models = list(candidates.models.values())
    same, notes = alike(models)
    if candidates.first.kind == "encoder":
        fit, more = same_task(models, measure.longest)
        same, notes = [a and b for a, b in zip(same, fit, strict=True)], notes + more
    return same, notes


WINDOW = 256
"""Tokens per window."""


WINDOWS = 64


_BATCH = 4


class Measure(Protocol):
    """Quality measure of an open model."""

    @property
    def longest(self) -> int:
        """Tokens per sequence that a runner must hold."""
        ...

    @property
    def steps(self) -> int: ...

    def scores(self, runner: Any, under: Mapping[str, Any], observer: Observer) -> Scores: ...


@dataclass(frozen=True)
class TextPerplexity:
    """Perplexity of decoders with the same tokenization."""

    windows: Tokens

    @property
    def longest(self) -> int:
        return int(self.windows.shape[1])

    @property
    def steps(self) -> int:
        return len(self.windows)

    def scores(self, runner: Any, under: Mapping[str, Any], observer: Observer) -> Scores:
        measured = perplexity(
            runner, self.windows, batch=_BATCH, conditions=under, progress=observer.advance
        )
        return Scores({"perplexity": measured})


def windows_of(text: str, first: Candidate) -> Tokens:
    """Full windows of a text, tokenized by the first model; (windows, tokens).

    Raises:
        InputError: the model has no tokenizer, or no embedding for a token, or the text is too short.
    """
    ids = tokens_of(text, first)
    if ids is None:
        raise InputError(
            f"`{first.label}` has no tokenizer for the text",
            hint="give the run that contains the artifact, or a model folder with a tokenizer",
        )
    _require_embeddings(ids, first)
    length = min(WINDOW, len(ids))
    if length < 2:
        raise InputError(f"the text has {len(ids)} tokens: too few to score", hint="give more text")
    count = min(WINDOWS, len(ids) // length)
    return np.asarray(ids[: count * length], np.int64).reshape(count, length)


def _require_embeddings(ids: Sequence[int], first: Candidate) -> None:
    tokenizer = tokenizer_of(first)
    if tokenizer is not None and first.source is not None:
        embeddings = int(skeleton(first.source).config.vocab_size)
        require_embeddings([("the text", ids)], tokenizer, embeddings)


def tokens_of(text: str, model: Candidate) -> list[int] | None:
    """Token ids of a text; None: the model has no tokenizer."""
    tokenizer = tokenizer_of(model)
    if tokenizer is None:
        return None
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


SAMPLE = "The café at No. 42 isn't open — 3.14 % of IT said: “Déjà-vu?”\n\tfoo_bar(x)"
"""Mixed case, digits, punctuation and whitespace, on which tokenizers differ."""


def alike(candidates: Sequence[Candidate], sample: str = SAMPLE) -> tuple[list[bool], list[str]]:
    """Whether each model tokenizes a sample like the first; notes explain the others."""
    notes: list[str] = []
    first, same = tokens_of(sample, candidates[0]), list[bool]()
    for model in candidates:
        own = tokens_of(sample, model)
        same.append(own is not None and own == first)
        if own is None:
            notes.append(f"`{model.label}` has no tokenizer: its quality is not measured")
        elif own != first:
            notes.append(
                f"`{model.label}` tokenizes text differently from `{candidates[0].label}`:"
                " its quality cannot be compared"
            )
    return same, notes
