"""Examples as a model takes them: right-padded windows with their labels, cut into batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numprune_export.data.corpus import Windows
from numprune_export.data.labelled.settings import LabelledData
from numprune_export.export.encoder import Task as Kind

UNSCORED = -100
"""The label of a token that has none: what torch's cross entropy ignores."""

Labels = NDArray[np.int64] | NDArray[np.float32]


@dataclass(frozen=True)
class Questions:
    """What turns span logits back into answers."""

    contexts: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...] | None
    """Every accepted answer of each question; none: it has no answer. None: not labelled."""
    question_of: NDArray[np.int64]
    """(windows,), the question that a window is of."""
    offsets: NDArray[np.int64]
    """(windows, length, 2), where a token lies in the context; -1: it is no part of it."""
    may_be_unanswerable: bool
    """Some question of the data has no answer, as in SQuAD 2: none is then a possible answer."""


@dataclass(frozen=True)
class Encoded:
    """Tokenised examples, special tokens included."""

    kind: Kind
    data: LabelledData
    windows: Windows
    """As wide as the longest row."""
    labels: Labels | None
    """`sequence`: (n,) class numbers, or fp32 targets of a regression. `token`: (n, length) class
    numbers, UNSCORED where a token begins no word. `span`: (n, 3), the first and last token of the
    answer (0 and 0: not in this window) and the window's length, behind which no answer lies.
    None: not labelled."""
    cut: int
    """How many examples were longer than the windows, and lost their end."""
    questions: Questions | None = None

    def __len__(self) -> int:
        return len(self.windows.tokens)

    def batches(self, size: int | None = None, *, by_length: bool) -> Iterator[Batch]:
        """Batches no wider than their longest row.

        Args:
            size: Rows of a batch; None: as the data's settings say.
            by_length: Rows of like length together, which pads least; else in order.
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
    """Some rows of the encoded examples, and which."""

    rows: NDArray[np.int64]
    windows: Windows
    labels: Labels | None


def padded(rows: Sequence[Sequence[int]], value: int) -> NDArray[np.int64]:
    """Rows of unequal length, filled up on the right."""
    width = max(map(len, rows))
    filled = np.full((len(rows), width), value, dtype=np.int64)
    for index, row in enumerate(rows):
        filled[index, : len(row)] = row
    return filled
