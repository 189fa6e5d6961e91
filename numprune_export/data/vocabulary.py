"""Check that a model has an embedding for every token of a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from numprune_export.core.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def require_embeddings(
    texts: Iterable[tuple[str, Sequence[int]]], tokenizer: PreTrainedTokenizerBase, embeddings: int
) -> None:
    """Check token ids before the first forward pass.

    Args:
        texts: For each text, its source for messages, and its token ids.
        tokenizer: The tokenizer that produced the ids.
        embeddings: Number of the model's embeddings; ids must be below it.

    Raises:
        InputError: an id is too large; the message names the first such text.
    """
    for place, ids in texts:
        beyond = next((token for token in ids if token >= embeddings), None)
        if beyond is not None:
            name = tokenizer.convert_ids_to_tokens(beyond)
            raise InputError(
                f"{place} holds token `{name}` with id {beyond}, but the model has only"
                f" {embeddings} embeddings and its tokenizer {len(tokenizer)} tokens",
                hint="give the tokenizer that belongs to the model, or save the model again after"
                " `model.resize_token_embeddings(len(tokenizer))`",
            )
