"""Span logits to the text of an answer, as SQuAD's baselines decode them (Devlin et al. 2018, §4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numprune_export.export.runner import Logits

BEST = 20
"""How many of the likeliest starts and ends are combined."""
LONGEST = 30
"""Tokens of an answer."""


class Candidate(NamedTuple):
    """A possible answer: its logits' sum, and where it lies in the context."""

    score: float
    start: int
    end: int


NO_ANSWER = -1
"""`start` and `end` of the candidate that there is no answer."""


def candidates(logits: Logits, offsets: NDArray[np.int64]) -> list[Candidate]:
    """The best answer of one window, if it has one, and that there is none.

    Args:
        logits: (length, 2), of starting and of ending at a token; without padding.
        offsets: (length, 2), where the token lies in the context; -1: it is no part of it.
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
    place = offsets[context[starts[first]], 0], offsets[context[ends[last]], 1]
    return [null, Candidate(float(sums[first, last]), int(place[0]), int(place[1]))]


def best_answer(found: Sequence[Candidate], context: str, *, may_be_none: bool) -> str:
    """The likeliest text over all windows of a question; empty if none is likelier.

    There is no answer only if every window says so: its least sure one counts (threshold 0).
    """
    null = min(one.score for one in found if one.start == NO_ANSWER)
    spans = [one for one in found if one.start != NO_ANSWER]
    if not spans:
        return ""
    best = max(spans)
    return "" if may_be_none and null > best.score else context[best.start : best.end]
