"""Token windows for calibration and evaluation, from text files or a `datasets` id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from numprune_export.core.errors import InputError
from numprune_export.core.paths import require as require_path
from numprune_export.core.text_file import read_filled
from numprune_export.data import row_file
from numprune_export.data.corpus_settings import Corpus
from numprune_export.data.hub_rows import Stream, texts_of
from numprune_export.data.row_file import Row
from numprune_export.data.vocabulary import require_embeddings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DOCUMENT_SEPARATOR = "\n\n"


@dataclass(frozen=True)
class Windows:
    """Right-padded token windows. Row b is real up to lengths[b]."""

    tokens: NDArray[np.int64]
    """(sequences, tokens_per_sequence)."""
    lengths: NDArray[np.int64]
    """(sequences,)."""
    types: NDArray[np.int64] | None = None
    """(sequences, tokens_per_sequence), token types; None: all 0."""

    def rows(self, chosen: NDArray[np.intp]) -> Windows:
        """These windows, in this order, as wide as the longest of them."""
        lengths = self.lengths[chosen]
        width = int(lengths.max(initial=0))
        types = None if self.types is None else self.types[chosen, :width]
        return Windows(self.tokens[chosen, :width], lengths, types)

    def part(self, rows: slice) -> Windows:
        """Consecutive windows, as wide as all of them."""
        types = None if self.types is None else self.types[rows]
        return Windows(self.tokens[rows], self.lengths[rows], types)

    def first(self, count: int | None) -> Windows:
        """The first windows, at most `count`; None: all."""
        total = len(self.tokens)
        return self.rows(np.arange(min(count or total, total)))

    def positions(self, start: int, stop: int) -> Windows:
        """All windows, restricted to positions from `start` up to and without `stop`."""
        types = None if self.types is None else self.types[:, start:stop]
        lengths = (self.lengths - start).clip(0, stop - start)
        return Windows(self.tokens[:, start:stop], lengths, types)

    def by_length(self, size: int) -> list[NDArray[np.intp]]:
        """Row numbers of batches of at most `size`, longest first, which minimises padding."""
        order = np.argsort(-self.lengths, kind="stable")
        return [order[start : start + size] for start in range(0, len(order), size)]

    @property
    def padded(self) -> bool:
        return bool((self.lengths < self.tokens.shape[1]).any())


@dataclass(frozen=True)
class _Document:
    text: str
    place: str
    """Source for messages: a file or a row."""


@dataclass(frozen=True)
class Drawn:
    """Windows of one source, and how much of it was read."""

    windows: Windows
    documents: int
    """Documents that the windows were cut from: files, or rows."""
    rows_read: int | None = None
    """Rows that were read of a streamed data set, its buffer included; None: not streamed."""


def draw(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, search: Sequence[Path], *, embeddings: int
) -> Windows:
    """The windows of `read`."""
    return read(corpus, tokenizer, search, embeddings=embeddings).windows


def read(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, search: Sequence[Path], *, embeddings: int
) -> Drawn:
    """Tokenise a corpus of one source and draw windows; equal for equal seeds.

    Raises:
        InputError, HubError: as `tokenised`; or the text is too short.
    """
    return tokenised(corpus, tokenizer, search, embeddings=embeddings).drawn(corpus.sequences)


@dataclass(frozen=True)
class Tokenised:
    """A corpus of one source as token ids."""

    corpus: Corpus
    ids: list[list[int]]
    """Packed windows: all documents joined. Windows of documents: each document of two or more
    tokens."""
    documents: int
    rows_read: int | None
    """As in `Drawn`."""

    @property
    def available(self) -> int:
        """Maximum number of windows."""
        packed = self.corpus.windows == "packed"
        return len(self.ids[0]) // self.corpus.tokens_per_sequence if packed else len(self.ids)

    def drawn(self, sequences: int) -> Drawn:
        """Windows by the seed of the corpus.

        Raises:
            InputError: more than are available.
        """
        corpus = self.corpus.model_copy(update={"sequences": sequences})
        packed = corpus.windows == "packed"
        windows = _packed(corpus, self.ids[0]) if packed else _per_document(corpus, self.ids)
        return Drawn(windows, self.documents, self.rows_read)


def tokenised(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, search: Sequence[Path], *, embeddings: int
) -> Tokenised:
    """Tokenise a corpus of one source without special tokens.

    Args:
        corpus: The text source.
        tokenizer: The model's tokenizer.
        search: Folders in which relative paths are looked up.
        embeddings: Number of the model's embeddings; token ids must be below it.

    Raises:
        InputError: a file is missing or unreadable, or the model has no embedding for a token.
        HubError: the data set cannot be loaded.
    """
    stream = None
    if corpus.dataset is not None and corpus.dataset.stream:
        stream = Stream(corpus.dataset, corpus.seed)
        documents = _enough(corpus, tokenizer, stream)
    else:
        documents = list(_documents(corpus, search))
    texts = [document.text for document in documents]
    packed = corpus.windows == "packed"
    encoded = _encode(tokenizer, [DOCUMENT_SEPARATOR.join(texts)] if packed else texts)
    if max(map(max, filter(None, encoded)), default=0) >= embeddings:
        checked = _encode(tokenizer, texts) + encoded
        places = [document.place for document in documents] + ["the text"] * len(encoded)
        require_embeddings(zip(places, checked, strict=True), tokenizer, embeddings)
    ids = encoded if packed else [ids for ids in encoded if len(ids) >= 2]
    return Tokenised(corpus, ids, len(documents), None if stream is None else stream.rows_read)


def _enough(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, rows: Iterable[Row]
) -> list[_Document]:
    """The first rows that fill the windows; all rows if they are too few."""
    packed, documents, held = corpus.windows == "packed", list[_Document](), 0
    wanted = corpus.sequences * (corpus.tokens_per_sequence if packed else 1)
    for row in rows:
        documents.append(_of_row(row, corpus.field))
        (ids,) = _encode(tokenizer, [documents[-1].text])
        held += len(ids) if packed else len(ids) >= 2
        if held >= wanted and packed:  # joined texts may have other tokens at their borders
            joined = DOCUMENT_SEPARATOR.join(document.text for document in documents)
            held = len(_encode(tokenizer, [joined])[0])
        if held >= wanted:
            break
    return documents


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    if not texts:
        return []
    encoded = tokenizer(texts, add_special_tokens=False, verbose=False)
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def _packed(corpus: Corpus, stream: list[int]) -> Windows:
    length = corpus.tokens_per_sequence
    available = len(stream) // length
    if available < corpus.sequences:
        raise InputError(
            f"the text holds {len(stream)} tokens, too short for {corpus.sequences} sequences of"
            f" {length} ({corpus.sequences * length} tokens)",
            hint=_fewer("text", available),
        )
    order = np.random.default_rng(corpus.seed).permutation(available)[: corpus.sequences]
    tokens = np.asarray(stream[: available * length], dtype=np.int64).reshape(available, length)
    return Windows(tokens[np.sort(order)], np.full(corpus.sequences, length, dtype=np.int64))


def _fewer(what: str, available: int) -> str:
    return f"give more {what}" + (
        f", or ask for at most {available} sequences" if available else ""
    )


def _per_document(corpus: Corpus, usable: list[list[int]]) -> Windows:
    if len(usable) < corpus.sequences:
        raise InputError(
            f"the text holds {len(usable)} documents of 2 or more tokens, too few for"
            f" {corpus.sequences} sequences",
            hint=_fewer("documents", len(usable)),
        )
    order = np.random.default_rng(corpus.seed).permutation(len(usable))[: corpus.sequences]
    tokens = np.zeros((corpus.sequences, corpus.tokens_per_sequence), dtype=np.int64)
    lengths = np.zeros(corpus.sequences, dtype=np.int64)
    for row, index in enumerate(np.sort(order)):
        ids = usable[index][: corpus.tokens_per_sequence]
        tokens[row, : len(ids)] = ids
        lengths[row] = len(ids)
    return Windows(tokens, lengths)


def _documents(corpus: Corpus, search: Sequence[Path]) -> Iterator[_Document]:
    if corpus.dataset is not None:
        for row in texts_of(corpus.dataset, corpus.field):
            yield _of_row(row, corpus.field)
        return
    for name in corpus.texts or ():
        path = require_path(name, search, what="text file")
        if path.suffix.lower() in row_file.SUFFIXES:
            yield from (_of_row(row, corpus.field) for row in row_file.rows_of(path))
        else:
            yield _Document(read_filled(path), f"`{path}`")


def _of_row(row: Row, field: str) -> _Document:
    text = row.get(field)
    if not isinstance(text, str):
        raise InputError(
            f"{row.place} has no text under `{field}`",
            hint="fix the row, or name the right `field` in the recipe",
        )
    return _Document(text, row.place)
