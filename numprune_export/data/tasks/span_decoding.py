"""Decode span logits to answer texts, as in the SQuAD baselines (Devlin et al. 2018, §4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numprune_export.export.runner import Logits

BEST = 20
"""Number of most likely starts and ends that are combined."""
LONGEST = 30
"""Most tokens of an answer."""


class Candidate(NamedTuple):
    """A possible answer: the sum of its logits, and its start and end character in the context."""

    score: float
    start: int
    end: int


NO_ANSWER = -1
"""`start` and `end` of the candidate 'no answer'."""


def candidates(logits: Logits, offsets: NDArray[np.int64]) -> list[Candidate]:
    """The candidate 'no answer' of one window, and its best answer, if any.

    Args:
        logits: (length, 2), start and end logits without padding.
        offsets: (length, 2), start and end character of each token in the context; -1: not in the
            context.
    """
    null = Candidate(float(logits[0].sum()), NO_ANSWER, NO_ANSWER)
    context = np.flatnonzero(offsets[:, 0] >= 0)
    if not len(context):
        return [null]
    start_logits, end_logits = logits[context, 0], logits[context, 1]
    starts = np.argsort(-start_logits, kind="stable")[:BEST]
    ends = np.argsort(-end_logits, kind="stable")[:BEST]
    widths = context[ends][None] - context[starts][:, None]
    allowed = (widths >= 0) & (widths < LONGEST)
    sums = np.where(allowed, start_logits[starts][:, None] + end_logits[ends][None], -np.inf)
    first, last = np.unravel_index(int(sums.argmax()), sums.shape)
    if not allowed[first, last]:
        return [null]
    start, end = offsets[context[starts[first]], 0], offsets[context[ends[last]], 1]
    return [null, Candidate(float(sums[first, last]), int(start), int(end))]


def best_answer(window_candidates: Sequence[Candidate], context: str, *, may_be_none: bool) -> str:
    """The most likely answer over all windows of a question; empty if 'no answer' is more likely.

    The score of 'no answer' is the lowest over the windows (threshold 0).
    """
    null = min(candidate.score for candidate in window_candidates if candidate.start == NO_ANSWER)
    spans = [candidate for candidate in window_candidates if candidate.start != NO_ANSWER]
    if not spans:
        return ""
    best = max(spans)
    return "" if may_be_none and null > best.score else context[best.start : best.end]
