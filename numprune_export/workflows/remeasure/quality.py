"""What the quality of the models of a comparison is measured by, and what it is."""

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
from numprune_export.measure.quality.perplexity import perplexity
from numprune_export.models.checkpoint.load import skeleton
from numprune_export.pipeline.kinds.kind import ModelKind
from numprune_export.workflows.remeasure.candidate import Candidate, Field, tokenizer_of
from numprune_export.workflows.remeasure.finished_run import opened
from numprune_export.workflows.remeasure.inputs import reopen
from numprune_export.workflows.remeasure.task_match import same_task


def measure_of(
    field: Field, text: Path | None, search: Sequence[Path]
) -> tuple[Measure | None, list[str]]:
    """What quality is measured by, and why there is nothing, in a sentence."""
    first = field.first
    if text is not None:
        if first.kind == "encoder":
            raise IncomparableError(
                "`--text` is for language models: an encoder's quality needs labelled examples",
                hint="leave `--text` out: the examples of the first one's run are taken",
            )
        return TextPerplexity(windows_of(read_filled(text), first)), []
    if first.run is None:
        what = "labelled examples" if first.kind == "encoder" else "a text (or give it by `--text`)"
        return None, [f"quality is not measured: `{first.label}` is not of a run that has {what}"]
    try:
        with opened(first.run) as run:
            return _OfRun(reopen(run, search).kind), []
    except IncomparableError:
        raise
    except NumpruneError as error:
        return None, [f"quality is not measured: {error}"]


@dataclass(frozen=True)
class _OfRun:
    """What a run was evaluated on."""

    kind: ModelKind

    @property
    def longest(self) -> int:
        return int(self.kind.texts.moments.tokens.shape[1])

    @property
    def steps(self) -> int:
        return self.kind.evaluated

    def scores(self, runner: Any, under: Mapping[str, Any], observer: Observer) -> Metrics:
        return self.kind.scores(runner, under, observer).metrics


def quality_of(field: Field, measure: Measure, observer: Observer) -> tuple[Metrics, list[str]]:
    same, notes = _comparable(field, measure)
    chosen = {key: one for (key, one), fits in zip(field.models.items(), same, strict=True) if fits}
    observer.expect(len(chosen) * measure.steps)
    conditions, found = field.conditions(), dict[str, Metrics]()
    for key, one in chosen.items():
        threads = field.settings.threads
        with one.open(field.device, threads=threads, capacity=measure.longest) as runner:
            found[key] = measure.scores(runner, conditions[key], observer)
    scores = dict.fromkeys(score for one in found.values() for score in one)
    metrics = {
        f"quality.{score}.{key}": one[score] for score in scores for key, one in found.items()
    }
    return metrics, notes


def _comparable(field: Field, measure: Measure) -> tuple[list[bool], list[str]]:
    """Whose quality is measured, and why that of others is not."""
    models = list(field.models.values())
    same, notes = alike(models)
    if field.first.kind == "encoder":
        fit, more = same_task(models, measure.longest)
        same, notes = [a and b for a, b in zip(same, fit, strict=True)], notes + more
    return same, notes


WINDOW = 256
"""Tokens."""


WINDOWS = 64


_BATCH = 4


class Measure(Protocol):
    """How good an open model is."""

    @property
    def longest(self) -> int:
        """Tokens that a runner must hold."""
        ...

    @property
    def steps(self) -> int: ...

    def scores(self, runner: Any, under: Mapping[str, Any], observer: Observer) -> Metrics: ...


@dataclass(frozen=True)
class TextPerplexity:
    """Of decoders that read a text into the same tokens."""

    windows: Tokens

    @property
    def longest(self) -> int:
        return int(self.windows.shape[1])

    @property
    def steps(self) -> int:
        return len(self.windows)

    def scores(self, runner: Any, under: Mapping[str, Any], observer: Observer) -> Metrics:
        found = perplexity(
            runner, self.windows, batch=_BATCH, conditions=under, progress=observer.advance
        )
        return {"perplexity": found}


def windows_of(text: str, first: Candidate) -> Tokens:
    """Full windows of a text, as the first model reads it.

    Raises:
        InputError: the model has no tokenizer, or no embedding for a token, or the text is too short.
    """
    ids = tokens_of(text, first)
    if ids is None:
        raise InputError(
            f"`{first.label}` has no tokenizer beside it to read a text by",
            hint="name the run that an artifact lies in, or a model folder with its tokenizer",
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


def tokens_of(text: str, one: Candidate) -> list[int] | None:
    """None: it has no tokenizer."""
    tokenizer = tokenizer_of(one)
    if tokenizer is None:
        return None
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


SAMPLE = "The café at No. 42 isn't open — 3.14 % of IT said: “Déjà-vu?”\n\tfoo_bar(x)"
"""Letters of both cases, digits, signs and spaces: where tokenizers differ."""


def alike(contenders: Sequence[Candidate], sample: str = SAMPLE) -> tuple[list[bool], list[str]]:
    """Which models read a text as the first one does, and why the others do not, in sentences."""
    notes: list[str] = []
    first, same = tokens_of(sample, contenders[0]), list[bool]()
    for one in contenders:
        own = tokens_of(sample, one)
        same.append(own is not None and own == first)
        if own is None:
            notes.append(f"`{one.label}` has no tokenizer beside it: its quality is not measured")
        elif own != first:
            notes.append(
                f"`{one.label}` reads a text into other tokens than `{contenders[0].label}`:"
                " its quality cannot be compared"
            )
    return same, notes
