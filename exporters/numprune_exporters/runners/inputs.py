"""Checks of tokens, lengths and token types, common to all runners."""

from __future__ import annotations

import numpy as np

from numprune_export.core.errors import InputError
from numprune_export.export.runner import Tokens


def integers(name: str, values: Tokens, *, dimensions: int) -> Tokens:
    """`values` as contiguous int64.

    Raises:
        InputError: `values` are empty, not integers, or have another number of dimensions.
    """
    values = np.asarray(values)
    if values.ndim != dimensions or not values.size or values.dtype.kind not in "iu":
        raise InputError(
            f"{name} of shape `{values.shape}` and type `{values.dtype}` cannot be run",
            hint=f"give a non-empty integer array of {dimensions} dimensions",
        )
    return np.ascontiguousarray(values, dtype=np.int64)


def lengths_of(tokens: Tokens, lengths: Tokens | None) -> Tokens:
    """The length of each row of `tokens` (batch, length) as (batch,); None: full rows.

    Raises:
        InputError: `lengths` does not have one number from 1 to the row length per row.
    """
    batch, longest = tokens.shape
    if lengths is None:
        return np.full(batch, longest, np.int64)
    lengths = integers("lengths", lengths, dimensions=1)
    if lengths.shape != (batch,) or lengths.min() < 1 or lengths.max() > longest:
        raise InputError(
            f"lengths `{lengths.tolist()}` do not fit tokens of shape `{tokens.shape}`",
            hint=f"give `{batch}` lengths from 1 to `{longest}`",
        )
    return lengths


def check_vocabulary(tokens: Tokens, vocabulary: int) -> None:
    """Raise InputError for a token outside the vocabulary."""
    wrong = tokens[(tokens < 0) | (tokens >= vocabulary)]
    if wrong.size:
        raise InputError(
            f"token `{wrong[0]}` is outside the vocabulary of `{vocabulary}`",
            hint="tokenize with this model's own tokenizer",
        )
