"""Exact match and F1 of answers, as in SQuAD (Rajpurkar et al. 2016, arXiv:1606.05250, §6)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """The text in lower case, without punctuation, articles and repeated blanks.

    >>> normalised("The  Cat, a dog.")
    'cat dog'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(predicted: str, answers: Sequence[str]) -> float:
    """1 if the prediction is an accepted answer, else 0. Without answers: 1 if the prediction is
    empty."""
    return max(float(normalised(predicted) == normalised(answer)) for answer in answers or ("",))


def f1(predicted: str, answers: Sequence[str]) -> float:
    """The best word-level F1 over the accepted answers. Without answers: as `exact_match`."""
    return max(
        _f1(normalised(predicted).split(), normalised(answer).split())
        for answer in answers or ("",)
    )


def _f1(predicted: list[str], answer: list[str]) -> float:
    if not predicted or not answer:
        return float(predicted == answer)
    shared = sum((Counter(predicted) & Counter(answer)).values())
    return 2 * shared / (len(predicted) + len(answer))
