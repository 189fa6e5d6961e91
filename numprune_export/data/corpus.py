"""Token windows for calibration and evaluation, from text files or a `datasets` id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from numprune_export.core.errors import HubError, InputError
from numprune_export.core.optional import require
from numprune_export.core.paths import require as require_path
from numprune_export.core.settings import Strict
from numprune_export.core.text_file import read_filled
from numprune_export.data import row_file
from numprune_export.data.hub_access import reachable_or_offline
from numprune_export.data.row_file import Row
from numprune_export.data.vocabulary import require_embeddings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DOCUMENT_SEPARATOR = "\n\n"


class Dataset(Strict):
    """A data set of the Hugging Face Hub, or a folder that `datasets` can load."""

    id: str
    name: str | None = None
    """The configuration of the data set, for example `wikitext-2-raw-v1`."""
    split: str = "train"
    revision: str | None = None


class Corpus(Strict):
    """A text source, the amount of text, and how it is split into windows."""

    texts: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Files of plain text (`.txt` or any other suffix), or with one text per row: `.jsonl`,
    `.json`, `.csv`, `.tsv`."""
    dataset: Dataset | None = None
    """Instead of `texts`."""
    field: str = "text"
    """The field with the text, in a file of rows or a data set."""
    windows: Literal["packed", "documents"] = "packed"
    """`packed`: documents are joined and split into full windows, without padding. `documents`: one
    window per document, truncated or padded; padding is ignored."""
    sequences: PositiveInt = 64
    tokens_per_sequence: Annotated[int, Field(ge=2)] = 512
    batch: PositiveInt = 4
    """Sequences per batch."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the draw of windows."""

    @model_validator(mode="after")
    def _one_source(self) -> Corpus:
        if (self.texts is None) == (self.dataset is None):
            raise ValueError("give either `texts` or `dataset`")
        return self


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


def draw(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, search: Sequence[Path], *, embeddings: int
) -> Windows:
    """Tokenise the corpus without special tokens and draw windows; equal for equal seeds.

    Args:
        corpus: The text source.
        tokenizer: The model's tokenizer.
        search: Folders in which relative paths are looked up.
        embeddings: Number of the model's embeddings; token ids must be below it.

    Raises:
        InputError: a file is missing or unreadable, the text is too short, or the model has no
            embedding for a token.
        HubError: the data set cannot be loaded.
    """
    documents = list(_documents(corpus, search))
    texts = [document.text for document in documents]
    packed = corpus.windows == "packed"
    encoded = _encode(tokenizer, [DOCUMENT_SEPARATOR.join(texts)] if packed else texts)
    if max(map(max, filter(None, encoded)), default=0) >= embeddings:
        checked = _encode(tokenizer, texts) + encoded
        places = [document.place for document in documents] + ["the text"] * len(encoded)
        require_embeddings(zip(places, checked, strict=True), tokenizer, embeddings)
    return _packed(corpus, encoded[0]) if packed else _per_document(corpus, encoded)


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
            hint=f"give more text, or ask for at most {available} sequences",
        )
    order = np.random.default_rng(corpus.seed).permutation(available)[: corpus.sequences]
    tokens = np.asarray(stream[: available * length], dtype=np.int64).reshape(available, length)
    return Windows(tokens[np.sort(order)], np.full(corpus.sequences, length, dtype=np.int64))


def _per_document(corpus: Corpus, documents: list[list[int]]) -> Windows:
    usable = [ids for ids in documents if len(ids) >= 2]
    if len(usable) < corpus.sequences:
        raise InputError(
            f"the text holds {len(usable)} documents of 2 or more tokens, too few for"
            f" {corpus.sequences} sequences",
            hint=f"give more documents, or ask for at most {len(usable)} sequences",
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
        yield from _dataset_rows(corpus.dataset, corpus.field)
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


def fetch(dataset: Dataset) -> Any:
    """The rows of a data set, as a `datasets.Dataset`.

    Raises:
        HubError: the data set cannot be loaded.
        MissingExtraError: `datasets` is not installed.
    """
    datasets = require("datasets", extra="datasets")
    unreachable = None
    try:
        with reachable_or_offline(dataset.id, dataset.revision) as unreachable:
            return datasets.load_dataset(
                dataset.id, dataset.name, split=dataset.split, revision=dataset.revision
            )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if unreachable is not None:
            reason = f"the Hub is unreachable and the data set is not cached: {unreachable}"
        raise HubError(
            f"cannot load data set `{dataset.id}`: {reason}",
            hint="check its name, its split and the network, or give local files",
        ) from None


def _dataset_rows(dataset: Dataset, field: str) -> Iterator[_Document]:
    rows = fetch(dataset)
    if field not in rows.column_names:
        raise InputError(
            f"data set `{dataset.id}` has no column `{field}`",
            hint=f"its columns: {', '.join(rows.column_names)}",
        )
    for index, text in enumerate(rows[field]):
        yield _of_row(Row({field: text}, f"row {index} of data set `{dataset.id}`"), field)
