"""Quality of models side by side: on a text, or on what a run was evaluated on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from numprune_export.core.errors import InputError
from numprune_export.core.metric import Metrics
from numprune_export.core.progress import Observer
from numprune_export.export.artifact import Tokens
from numprune_export.measure.quality.perplexity import perplexity
from numprune_export.models.checkpoint.load import skeleton
from numprune_export.models.vocabulary import require_embeddings
from numprune_export.workflows.remeasure.candidate import Contender, tokenizer_of

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


def windows_of(text: str, first: Contender) -> Tokens:
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


def _require_embeddings(ids: Sequence[int], first: Contender) -> None:
    tokenizer = tokenizer_of(first)
    if tokenizer is not None and first.source is not None:
        embeddings = int(skeleton(first.source).config.vocab_size)
        require_embeddings([("the text", ids)], tokenizer, embeddings)


def tokens_of(text: str, one: Contender) -> list[int] | None:
    """None: it has no tokenizer."""
    tokenizer = tokenizer_of(one)
    if tokenizer is None:
        return None
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


SAMPLE = "The café at No. 42 isn't open — 3.14 % of IT said: “Déjà-vu?”\n\tfoo_bar(x)"
"""Letters of both cases, digits, signs and spaces: where tokenizers differ."""


def alike(contenders: Sequence[Contender], sample: str = SAMPLE) -> tuple[list[bool], list[str]]:
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
