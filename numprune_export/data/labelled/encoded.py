"""Encoded examples: right-padded windows with labels, split into batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numprune_export.data.corpus import Windows
from numprune_export.data.labelled.settings import LabelledData
from numprune_export.export.encoder import Task as Kind

UNSCORED = -100
"""Label of a token without a label; torch's cross entropy ignores it."""

Labels = NDArray[np.int64] | NDArray[np.float32]


@dataclass(frozen=True)
class Questions:
    """Data for decoding span logits into answers."""

    contexts: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...] | None
    """Accepted answers of each question; an empty tuple: no answer. None: not labelled."""
    question_of: NDArray[np.int64]
    """(windows,), index of the question of each window."""
    offsets: NDArray[np.int64]
    """(windows, length, 2), start and end character of each token in the context; -1: not in the
    context."""
    may_be_unanswerable: bool
    """Whether some question has no answer, as in SQuAD 2; 'no answer' is then a valid
    prediction."""


@dataclass(frozen=True)
class Encoded:
    """Tokenised examples, special tokens included."""

    kind: Kind
    data: LabelledData
    windows: Windows
    """As wide as the longest row."""
    labels: Labels | None
    """`sequence`: (n,) class numbers, or fp32 targets of a regression. `token`: (n, length) class
    numbers, UNSCORED where a token does not begin a word. `span`: (n, 3), first and last token of
    the answer (0 and 0: not in this window) and the window's length. None: not labelled."""
    cut: int
    """Number of truncated examples."""
    questions: Questions | None = None

    def __len__(self) -> int:
        return len(self.windows.tokens)

    def batches(self, size: int | None = None, *, by_length: bool) -> Iterator[Batch]:
        """Batches, each as wide as its longest row.

        Args:
            size: Rows per batch; None: from the data's settings.
            by_length: Group rows of similar length, which minimises padding; false: keep the order.
        """
        order = np.arange(len(self))
        if by_length:
            order = np.argsort(self.windows.lengths, kind="stable")
        step = size or self.data.batch
        for start in range(0, len(self), step):
            yield self.batch(order[start : start + step])

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        lengths = self.windows.lengths[rows]
        width = int(lengths.max())
        types, labels = self.windows.types, self.labels
        if labels is not None:
            labels = labels[rows, :width] if self.kind == "token" else labels[rows]
        windows = Windows(
            self.windows.tokens[rows, :width],
            lengths,
            None if types is None else types[rows, :width],
        )
        return Batch(rows, windows, labels)


@dataclass(frozen=True)
class Batch:
    """Some rows of the encoded examples, and their indices."""

    rows: NDArray[np.int64]
    windows: Windows
    labels: Labels | None


def padded(rows: Sequence[Sequence[int]], value: int) -> NDArray[np.int64]:
    """Rows padded on the right with `value` to the longest row, (rows, length)."""
    width = max(map(len, rows))
    filled = np.full((len(rows), width), value, dtype=np.int64)
    for index, row in enumerate(rows):
        filled[index, : len(row)] = row
    return filled
