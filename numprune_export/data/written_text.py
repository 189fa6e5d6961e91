"""Token windows of texts that were generated elsewhere: `generated_text.texts` of a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from numprune_export.core.errors import InputError
from numprune_export.core.paths import require as require_path
from numprune_export.core.text_file import read_filled
from numprune_export.data import row_file
from numprune_export.data.corpus import Windows
from numprune_export.data.vocabulary import require_embeddings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FIELD = "text"
"""Of a file of rows."""


def written_windows(
    name: str,
    search: Sequence[Path],
    tokenizer: PreTrainedTokenizerBase,
    *,
    shape: tuple[int, int],
    embeddings: int,
) -> Windows:
    """The first texts of a file, one after the other, each followed by the end-of-text token if the
    tokenizer has one, split into full windows.

    Args:
        name: The file: one text per line, or rows (`row_file.SUFFIXES`).
        search: Folders in which a relative path is looked up.
        tokenizer: The model's tokenizer.
        shape: Number of windows, and tokens in each.
        embeddings: Number of the model's embeddings; token ids must be below it.

    Raises:
        InputError: the file is missing or unreadable, a row has no text, the texts are too short,
            or the model has no embedding for a token.
    """
    path = require_path(name, search, what="file of generated texts")
    texts = list(_texts(path))
    encoded = tokenizer([text for text, _ in texts], add_special_tokens=False, verbose=False)
    places = zip((place for _, place in texts), encoded["input_ids"], strict=True)
    require_embeddings(places, tokenizer, embeddings)
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    stream = [token for ids in encoded["input_ids"] for token in (*ids, *end)]
    sequences, tokens = shape
    available = len(stream) // tokens
    if available < sequences:
        raise InputError(
            f"the texts in `{path}` hold {len(stream)} tokens, too short for {sequences} windows of"
            f" {tokens} ({sequences * tokens} tokens)",
            hint=f"generate more text, or set `generated_text.sequences` to {available}"
            if available
            else "generate more text",
        )
    rows = np.asarray(stream[: sequences * tokens], dtype=np.int64).reshape(shape)
    return Windows(rows, np.full(sequences, tokens, dtype=np.int64))


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """Texts that are not blank, each with its place for messages."""
    if path.suffix.lower() in row_file.SUFFIXES:
        for row in row_file.rows_of(path):
            text = row.get(FIELD)
            if not isinstance(text, str):
                raise InputError(
                    f"{row.place} has no text under `{FIELD}`", hint="write the text there"
                )
            if text.strip():
                yield text, row.place
        return
    for number, line in enumerate(read_filled(path).split("\n"), start=1):
        if line.strip():
            yield line, f"line {number} of `{path}`"
