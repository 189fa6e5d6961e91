"""Tokenise labelled texts to windows with special tokens and token types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from numprune_export.core.errors import InputError, RecipeError
from numprune_export.data.corpus import Windows
from numprune_export.data.labelled.encoded import padded
from numprune_export.data.labelled.settings import LabelledData
from numprune_export.data.vocabulary import require_embeddings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Reading:
    """A model's tokenizer and the limits of its embeddings."""

    tokenizer: PreTrainedTokenizerBase
    max_positions: int
    """Most tokens of a text."""
    token_types: int
    """Number of token types; 1 or less: a single type."""
    embeddings: int
    """Number of embeddings; token ids must be below it."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, config: Any, max_positions: int) -> Reading:
        """From a transformers config.

        Raises:
            InputError: the tokenizer is a slow one, which gives neither words nor offsets.
        """
        if not tokenizer.is_fast:
            raise InputError(
                f"`{type(tokenizer).__name__}` is not a fast tokenizer",
                hint="give a model folder with a tokenizer.json",
            )
        token_types = int(getattr(config, "type_vocab_size", 0) or 0)
        return cls(tokenizer, max_positions, token_types, int(config.vocab_size))

    def call(self, data: LabelledData, *texts: Any, **options: Any) -> Any:
        """Tokenise with special tokens, truncated at `max_length`.

        Raises:
            RecipeError: `max_length` exceeds the model's positions.
        """
        if data.max_length > self.max_positions:
            raise RecipeError(
                f"`max_length: {data.max_length}` exceeds the model's {self.max_positions}"
                " positions",
                hint=f"set it to {self.max_positions} or less",
            )
        return self.tokenizer(
            *texts,
            **{"truncation": True, **options},
            max_length=data.max_length,
            padding=False,
            padding_side="right",
            return_token_type_ids=True,
            return_attention_mask=False,
            verbose=False,
        )

    def windows(self, encoded: Any, places: Sequence[str]) -> Windows:
        """The result of `call`, padded to its longest row.

        Args:
            encoded: One row per text, or one row per window where a text has several.
            places: Source of each text, for messages.

        Raises:
            InputError: the model has no embedding for a token.
        """
        rows: Sequence[Sequence[int]] = encoded["input_ids"]
        owner = encoded.get("overflow_to_sample_mapping", range(len(rows)))
        named = ((places[index], ids) for index, ids in zip(owner, rows, strict=True))
        require_embeddings(named, self.tokenizer, self.embeddings)
        # The value of padding is irrelevant, because it is masked, except to RoBERTa, which counts
        # positions by it. An added pad token may have no embedding.
        pad = self.tokenizer.pad_token_id
        pad = 0 if pad is None or pad >= self.embeddings else int(pad)
        types = padded(encoded["token_type_ids"], 0) if self.token_types > 1 else None
        return Windows(
            padded(rows, pad),
            np.asarray([len(row) for row in rows], dtype=np.int64),
            types if types is not None and types.any() else None,
        )

    def cut(self, encoded: Any) -> int:
        """Number of truncated texts."""
        return sum(bool(encoding.overflowing) for encoding in encoded.encodings)
