"""A question with its context and accepted answers, validated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numprune_export.core.errors import InputError
from numprune_export.data.labelled import labels
from numprune_export.data.row_file import Row
from numprune_export.data.tasks.task import text_of


@dataclass(frozen=True)
class Question:
    """A question in the form of SQuAD."""

    text: str
    context: str
    answers: tuple[str, ...] | None
    """Accepted answers; an empty tuple: no answer. None: not labelled."""
    span: tuple[int, int] | None
    """Start and end character of the first answer, end excluded; None: no answer, or not
    labelled."""
    place: str

    @classmethod
    def of(cls, row: Row, fields: tuple[str, ...], label: str, *, labelled: bool) -> Question:
        """Read the question of a row.

        Raises:
            InputError: a text is empty, an answer is missing or is not at its stated position.
        """
        text, context = (text_of(row.get(field), field, row.place) for field in fields)
        if not labelled:
            return cls(text, context, None, None, row.place)
        texts, starts = _lists(labels.of(row, label), label, row.place)
        spans = [_span(context, *answer, row.place) for answer in zip(texts, starts, strict=True)]
        return cls(text, context, tuple(texts), spans[0] if spans else None, row.place)


def _lists(answers: Any, label: str, place: str) -> tuple[list[str], list[int]]:
    """Texts and start characters, from a mapping of lists or a list of mappings."""
    try:
        if isinstance(answers, list):
            texts = [answer["text"] for answer in answers]
            starts = [answer["answer_start"] for answer in answers]
        else:
            texts, starts = list(answers["text"]), list(answers["answer_start"])
    except (KeyError, TypeError):
        texts, starts = [], [0]
    valid = all(isinstance(text, str) for text in texts) and all(
        isinstance(start, int) for start in starts
    )
    if len(texts) != len(starts) or not valid:
        raise InputError(
            f"{place} has no answers in SQuAD form under `{label}`",
            hint='give {"text": ["..."], "answer_start": [17]}, with empty lists for no answer',
        )
    return texts, starts


def _span(context: str, text: str, start: int, place: str) -> tuple[int, int]:
    if start < 0 or not text.strip() or context[start : start + len(text)] != text:
        raise InputError(
            f"{place}: answer `{text}` is not at character {start} of its context",
            hint="correct `answer_start`, counted in characters from 0",
        )
    return start, start + len(text)
