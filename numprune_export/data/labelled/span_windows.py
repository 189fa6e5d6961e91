"""Overlapping windows of questions with long contexts, and the answer's position in each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numprune_export.core.errors import InputError
from numprune_export.data.labelled.encoded import Encoded, Questions
from numprune_export.data.labelled.questions import Question
from numprune_export.data.labelled.settings import LabelledData
from numprune_export.data.labelled.tokenize import Reading

NOWHERE = -1


def encode(data: LabelledData, reading: Reading, questions: list[Question]) -> Encoded:
    """Encode every window of every question.

    Raises:
        InputError: a question leaves no room for its context and `stride`.
    """
    _require_room(data, reading, questions)
    tokens = reading.call(
        data,
        [question.text for question in questions],
        [question.context for question in questions],
        truncation="only_second",
        stride=data.stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    windows = reading.windows(tokens, [question.place for question in questions])
    question_of = np.asarray(tokens["overflow_to_sample_mapping"], dtype=np.int64)
    offsets = _context_offsets(tokens, windows.tokens.shape)
    labelled = all(question.answers is not None for question in questions)
    spans = [
        (*_tokens_of(questions[index].span, offsets[row]), length)
        for row, (index, length) in enumerate(zip(question_of, windows.lengths, strict=True))
    ]
    return Encoded(
        kind="span",
        data=data,
        windows=windows,
        labels=np.asarray(spans, dtype=np.int64) if labelled else None,
        cut=0,
        questions=Questions(
            contexts=tuple(question.context for question in questions),
            answers=tuple(question.answers or () for question in questions) if labelled else None,
            question_of=question_of,
            offsets=offsets,
            may_be_unanswerable=labelled and not all(question.answers for question in questions),
        ),
    )


def _require_room(data: LabelledData, reading: Reading, questions: list[Question]) -> None:
    lengths = [len(ids) for ids in reading.tokenizer([q.text for q in questions])["input_ids"]]
    special = reading.tokenizer.num_special_tokens_to_add(pair=True)
    longest = int(np.argmax(lengths))
    # The lengths include special tokens, so this bound is a few tokens too strict.
    if lengths[longest] + special + data.stride >= data.max_length:
        raise InputError(
            f"{questions[longest].place}: a question of {lengths[longest]} tokens leaves no room for"
            f" its context in {data.max_length} tokens with a stride of {data.stride}",
            hint="raise `max_length`, or lower `stride`",
        )


def _context_offsets(tokens: Any, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """(windows, length, 2): start and end character of each token in the context, or NOWHERE."""
    offsets = np.full((*shape, 2), NOWHERE, dtype=np.int64)
    for row, encoding in enumerate(tokens.encodings):
        for position, (part, characters) in enumerate(
            zip(encoding.sequence_ids, encoding.offsets, strict=True)
        ):
            if part == 1:
                offsets[row, position] = characters
    return offsets


def _tokens_of(span: tuple[int, int] | None, offsets: NDArray[np.int64]) -> tuple[int, int]:
    """First and last token of the answer; 0 and 0 if the window does not hold the whole answer."""
    context = np.flatnonzero(offsets[:, 1] > offsets[:, 0])
    if span is None or not len(context):
        return 0, 0
    start, end = span
    first, last = offsets[context[0], 0], offsets[context[-1], 1]
    if start < first or end > last:
        return 0, 0
    holding = context[(offsets[context, 1] > start) & (offsets[context, 0] < end)]
    return (int(holding[0]), int(holding[-1])) if len(holding) else (0, 0)
