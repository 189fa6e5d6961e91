"""Windows of several text sources: drawn by source, and in an order that mixes them evenly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from numprune_export.core.errors import HubError, InputError, Mistakes
from numprune_export.data.corpus import Drawn, Windows, read
from numprune_export.data.corpus_settings import Corpus, Source
from numprune_export.data.hub_rows import streams_in_a_mix

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GOLDEN = (5**0.5 - 1) / 2
"""Part of a full turn. Points that are each this much further on a circle spread most evenly."""


@dataclass(frozen=True)
class DrawnSource:
    """A text source with its windows."""

    name: str
    source: Source
    drawn: Drawn

    @property
    def windows(self) -> Windows:
        return self.drawn.windows


@dataclass(frozen=True)
class SourceReader:
    """Reads sources for one model."""

    tokenizer: PreTrainedTokenizerBase
    search: Sequence[Path]
    """Folders in which relative paths are looked up."""
    embeddings: int
    """Number of the model's embeddings."""

    def shared(self, corpus: Corpus) -> tuple[DrawnSource, ...]:
        """For calibration: the windows of a corpus, divided among its sources by their shares.

        Raises:
            InputError, HubError: as `corpus.read`; lists every source that cannot be read.
        """
        return self._read(corpus, corpus.shared())

    def each(self, corpus: Corpus) -> tuple[DrawnSource, ...]:
        """For evaluation: `sequences` windows of every source.

        Raises:
            InputError, HubError: as `shared`.
        """
        return self._read(corpus, [corpus.sequences] * len(corpus.mix or ()))

    def _read(self, corpus: Corpus, counts: Sequence[int]) -> tuple[DrawnSource, ...]:
        if corpus.mix is None:
            return (self._drawn(corpus, Source(texts=corpus.texts, dataset=corpus.dataset)),)
        mistakes, sources = Mistakes(), list[DrawnSource]()
        for source, count in zip(corpus.mix, counts, strict=True):
            with mistakes.collected(), _named(source):
                sources.append(self._drawn(corpus.alone(_settled(source), count), source))
        mistakes.raise_all()
        return tuple(sources)

    def _drawn(self, corpus: Corpus, source: Source) -> DrawnSource:
        drawn = read(corpus, self.tokenizer, self.search, embeddings=self.embeddings)
        return DrawnSource(source.title, source, drawn)


def _settled(source: Source) -> Source:
    """The source with `stream` decided."""
    if source.dataset is None:
        return source
    stream = streams_in_a_mix(source.dataset)
    return source.model_copy(
        update={"dataset": source.dataset.model_copy(update={"stream": stream})}
    )


@contextmanager
def _named(source: Source) -> Iterator[None]:
    """Errors name the source."""
    try:
        yield
    except (InputError, HubError) as error:
        raise type(error)(f"source `{source.title}`: {error}", hint=error.hint) from None


def interleaved(parts: Sequence[Windows]) -> Windows:
    """The windows of several sources in one fixed order, in which every prefix, every run of
    neighbours and every n-th window holds all sources in about their proportion.

    The k-th place of N belongs to the source in whose share the point (k + 1/2) φ mod 1 falls, φ
    the golden ratio: multiples of φ fill the unit interval evenly, and so do every n-th of them.
    Windows of one source keep their order. One part is returned as it is.

    Args:
        parts: Windows of the same width, without token types.
    """
    if len(parts) == 1:
        return parts[0]
    counts = [len(part.tokens) for part in parts]
    points = (np.arange(sum(counts)) + 0.5) * GOLDEN % 1
    owners = np.empty(len(points), dtype=np.intp)
    owners[np.argsort(points, kind="stable")] = np.repeat(np.arange(len(parts)), counts)
    order = np.empty(len(points), dtype=np.intp)
    order[np.argsort(owners, kind="stable")] = np.arange(len(points))
    tokens = np.concatenate([part.tokens for part in parts])
    lengths = np.concatenate([part.lengths for part in parts])
    return Windows(tokens[order], lengths[order])
