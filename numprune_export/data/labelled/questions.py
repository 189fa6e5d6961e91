"""One question with its context and its accepted answers, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numprune_export.core.errors import InputError
from numprune_export.data.labelled import labels
from numprune_export.data.row_file import Row
from numprune_export.data.tasks.task import text_of


@dataclass(frozen=True)
class Question:
    """As SQuAD has it."""

    text: str
    context: str
    answers: tuple[str, ...] | None
    """Accepted answers; none: there is no answer. None: not labelled."""
    span: tuple[int, int] | None
    """First character of the first answer and the one after its last; None: no answer, no label."""
    place: str

    @classmethod
    def of(cls, row: Row, fields: tuple[str, ...], label: str, *, labelled: bool) -> Question:
        """A row's question.

        Raises:
            InputError: a text is empty, an answer is missing or does not stand where it is said to.
        """
        text, context = (text_of(row.get(one), one, row.place) for one in fields)
        if not labelled:
            return cls(text, context, None, None, row.place)
        texts, starts = _lists(labels.of(row, label), label, row.place)
        spans = [_span(context, *one, row.place) for one in zip(texts, starts, strict=True)]
        return cls(text, context, tuple(texts), spans[0] if spans else None, row.place)


def _lists(answers: Any, label: str, place: str) -> tuple[list[str], list[int]]:
    """Texts and starts, from a mapping of lists or a list of mappings."""
    try:
        if isinstance(answers, list):
            texts = [one["text"] for one in answers]
            starts = [one["answer_start"] for one in answers]
        else:
            texts, starts = list(answers["text"]), list(answers["answer_start"])
    except (KeyError, TypeError):
        texts, starts = [], [0]
    kinds = all(isinstance(one, str) for one in texts) and all(
        isinstance(one, int) for one in starts
    )
    if len(texts) != len(starts) or not kinds:
        raise InputError(
            f"{place} has no answers as SQuAD has them under `{label}`",
            hint='give {"text": ["..."], "answer_start": [17]}, with empty lists for no answer',
        )
    return texts, starts


def _span(context: str, text: str, start: int, place: str) -> tuple[int, int]:
    if start < 0 or not text.strip() or context[start : start + len(text)] != text:
        raise InputError(
            f"{place}: answer `{text}` does not stand at character {start} of its context",
            hint="correct `answer_start`, counted in characters from 0",
        )
    return start, start + len(text)
