"""Windows of several text sources, drawn by source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from numprune_export.core.errors import HubError, InputError, Mistakes
from numprune_export.data import general_text
from numprune_export.data.corpus import Drawn, Windows, read
from numprune_export.data.corpus_settings import Corpus, Source
from numprune_export.data.hub_rows import streams_in_a_mix

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
        return self._read(corpus, [corpus.sequences] * len(corpus.sources))

    def _read(self, corpus: Corpus, counts: Sequence[int]) -> tuple[DrawnSource, ...]:
        sources = corpus.sources
        if len(sources) == 1 and corpus.mix is None:
            return (self._drawn(corpus, sources[0]),)
        mistakes, drawn = Mistakes(), list[DrawnSource]()
        for source, count in zip(sources, counts, strict=True):
            given = source if corpus.mix is None else _settled(source)
            with mistakes.collected(), _named(source):
                drawn.append(self._drawn(corpus.alone(given, count), source))
        mistakes.raise_all()
        return tuple(drawn)

    def _drawn(self, corpus: Corpus, source: Source) -> DrawnSource:
        if source.builtin is None:
            drawn = read(corpus, self.tokenizer, self.search, embeddings=self.embeddings)
        else:
            drawn = general_text.read(
                corpus, source.builtin, self.tokenizer, embeddings=self.embeddings
            )
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
