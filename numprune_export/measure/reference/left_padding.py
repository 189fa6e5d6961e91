"""Conversion of right-padded to left-padded rows: all rows of a batch end at the same index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numprune_export.core.errors import InputError
from numprune_export.export.runner import Logits, Tokens


@dataclass(frozen=True)
class LeftPadded:
    """A left-padded prompt for a Hugging Face model; arrays are (batch, length)."""

    tokens: Tokens
    positions: Tokens
    """Position of each token in its row; 0 at padding."""
    mask: NDArray[np.bool_] | None
    """True at non-padding tokens; None: there is no padding."""
    lengths: Tokens
    """Lengths without padding, (batch,)."""

    @classmethod
    def of(cls, tokens: Tokens, lengths: Tokens | None) -> LeftPadded:
        """Convert a prompt; arguments as for `DecoderRunner.prefill`.

        Raises:
            InputError: `lengths` is not one number from 1 to the row length per row.
        """
        batch, length = tokens.shape
        lengths = np.full(batch, length, np.int64) if lengths is None else lengths
        _check_lengths(lengths, batch, length)
        index = np.arange(length) - (length - lengths)[:, None]  # negative: padding
        positions = np.maximum(index, 0)
        full = bool((lengths == length).all())
        return cls(
            tokens=np.take_along_axis(tokens, positions, axis=1),
            positions=positions,
            mask=None if full else index >= 0,
            lengths=lengths.astype(np.int64),
        )

    def to_right(self, logits: Logits) -> Logits:
        """Move logits of all positions, (batch, length, vocabulary), to right-padded order."""
        length = self.tokens.shape[1]
        back = (np.arange(length) + (length - self.lengths)[:, None]) % length
        return np.take_along_axis(logits, back[:, :, None], axis=1)


def check_rows(rows: int, before: int) -> None:
    """Check that a decode step has as many rows as the last prefill, `before`.

    Raises:
        InputError: there was no prefill (`before` is 0), or its number of rows differs.
    """
    if before == 0 or rows != before:
        raise InputError(
            f"decode got `{rows}` rows, the last prefill had `{before}`",
            hint="give one token per row of the last prefill",
        )


def _check_lengths(lengths: Tokens, batch: int, length: int) -> None:
    if lengths.shape != (batch,) or lengths.min() < 1 or lengths.max() > length:
        raise InputError(
            f"row lengths `{lengths.tolist()}` do not fit a batch of {batch} rows of {length}",
            hint=f"give each row a length from 1 to {length}",
        )
